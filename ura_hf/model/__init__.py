"""The network and what a pushed checkpoint carries: flat, closed, without a Hub."""
