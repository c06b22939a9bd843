"""Model-card template and dataset facts, as package data: `importlib.resources.files("weights_card")`."""
