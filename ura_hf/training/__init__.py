"""From good images to a calibrated checkpoint."""
