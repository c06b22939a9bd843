"""Defaults of `URANetConfig` that the command line shows, which must not wait for transformers."""

from __future__ import annotations

BACKBONE = "resnet18.tv_in1k"
IMAGE_SIZE = 256
GRID_SIZE = 32
FALSE_POSITIVE_RATE = 0.05
