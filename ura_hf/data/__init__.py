"""Reading of images, masks and dataset folders."""
