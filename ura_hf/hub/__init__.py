"""Names, downloads, cards and uploads of checkpoints."""
