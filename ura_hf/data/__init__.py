"""Folders and datasets as published, and what reads, checks and draws them."""
