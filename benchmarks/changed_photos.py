"""Good photos, changed: what `uncertainty.py` shows to a detector beside defects and other parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter


def _noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(float)
    noise = np.random.default_rng(0).normal(0, 10, pixels.shape)
    return Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda image: image,
    "blurred (2 of 256 pixels)": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "noise (10 of 255)": _noisy,
    "1.5 times as bright": lambda image: ImageEnhance.Brightness(image).enhance(1.5),
    "half the light": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
}
