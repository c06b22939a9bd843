"""Measuring, comparing and showing what a detector found."""
