"""Pictures of what the model computed: colour maps on fixed scales, the overlay and shared PCA colours."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import linalg, ndimage

from ..data.files import ASSETS
from ..model.pixels import row_blocks
from ..model.verdicts import THRESHOLD, check_threshold

Float = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]
Shown = TypeVar("Shown", Float, Pixels)
ColorMap = Literal["inferno", "viridis", "cividis"]
COLOR_MAPS: tuple[ColorMap, ...] = get_args(ColorMap)

GLOW_RAMP = 0.3  # share of the scale above the threshold over which the overlay reaches full strength
GLOW_COLORS = (0.45, 0.9)  # part of inferno that stands out on dark and on light parts
PCA_RANGE = (1.0, 99.0)  # percentiles of a component that map to the ends of its colour channel


def colorize(values: Float, vmin: float, vmax: float, cmap: ColorMap = "inferno") -> Pixels:
    """Colours of a map on a fixed scale: (H, W) -> uint8 RGB (H, W, 3); values outside [vmin, vmax] take the end colours.

    The scale is the caller's, never the map's own minimum and maximum, so equal colours mean equal values in any two images.
    """
    if values.ndim != 2:
        raise ValueError(f"map must be (H, W), but got shape {values.shape}")
    if not vmax > vmin:
        raise ValueError(f"vmax must be above vmin, but got vmin={vmin} and vmax={vmax}")
    share = np.clip((values.astype(np.float64) - vmin) / (vmax - vmin), 0, 1)
    return _look_up(share, cmap)


def glow(values: Float, strength: float = 0.85, threshold: float = THRESHOLD) -> tuple[Pixels, Float]:
    """Colour and opacity of the overlay at values of the fixed 0-1 scale, any shape (...) -> uint8 (..., 3), float (...).

    Opacity = strength * s^2 (3 - 2 s) with s = clip((value - threshold) / (0.3 (1 - threshold)), 0, 1): exactly 0 up to the
    threshold, in (0, 1).
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be in [0, 1], but got {strength}")
    check_threshold(threshold)
    excess = (values.astype(np.float64) - threshold) / (1 - threshold)
    ramp = np.clip(excess / GLOW_RAMP, 0, 1)
    low, high = GLOW_COLORS
    share = low + (high - low) * np.clip(excess, 0, 1)
    return _look_up(share, "inferno"), strength * ramp**2 * (3 - 2 * ramp)


def overlay(image: Float | Pixels, anomaly_map: Float, strength: float = 0.85, threshold: float = THRESHOLD) -> Pixels:
    """The image with its anomalies glowing: RGB (H, W, 3) and map (H, W) on the fixed 0-1 scale -> uint8 RGB.

    Where the map is at or below the threshold, by default 0.5, the pixel threshold, the image comes out untouched.

    Args:
        image: uint8, or floats in [0, 1].
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (H, W, 3), but got shape {image.shape}")
    if anomaly_map.shape != image.shape[:2]:
        raise ValueError(f"map must have the image's size {image.shape[:2]}, but got shape {anomaly_map.shape}")
    shown = np.empty(image.shape, np.uint8)
    for rows in row_blocks(*image.shape[:2]):
        shown[rows] = to_pixels(image[rows])
        values = anomaly_map[rows].reshape(-1)
        above = np.flatnonzero(values > threshold)
        colors, opacity = glow(values[above], strength, threshold)
        picture = image[rows].reshape(-1, 3)[above] / (255 if image.dtype == np.uint8 else 1)
        shown[rows].reshape(-1, 3)[above] = to_pixels(
            picture * (1 - opacity[:, None]) + colors / 255 * opacity[:, None]
        )
    return shown


def outline(picture: Pixels, labels: NDArray[np.integer[Any]], thickness: int = 2) -> Pixels:
    """The picture with the borders of labelled regions drawn around them, white between dark lines.

    uint8 RGB (H, W, 3) and labels (H, W), 0 outside -> uint8 RGB; what lies inside a region stays as it is.
    """
    inside = labels > 0
    if not inside.any():
        return picture
    drawn = picture.copy()
    distance = ndimage.distance_transform_edt(~inside)
    for color, low, high in ((16, 0, 1), (255, 1, 1 + thickness), (16, 1 + thickness, 2 + thickness)):
        drawn[(distance > low) & (distance <= high)] = color
    return drawn


def pca_colors(features: Float, restored: Float) -> tuple[Pixels, Pixels]:
    """Two feature maps (C, G, G) as pictures in shared colours -> two uint8 RGB (G, G, 3).

    The three leading principal components of both maps' cells together are red, green and blue, each from its 1st to its 99th
    percentile over both maps; equal colours therefore mean equal projections. A component's sign is fixed by making
    its largest loading positive; components that do not exist (constant features, C < 3) are mid-grey.
    """
    if features.ndim != 3 or features.shape != restored.shape:
        raise ValueError(f"features must be two equal (C, G, G), but got shapes {features.shape} and {restored.shape}")
    channels, height, width = features.shape
    cells = np.concatenate([features.reshape(channels, -1), restored.reshape(channels, -1)], axis=1).T.astype(
        np.float32
    )
    cells = cells - cells.mean(axis=0)
    count = min(3, channels)
    rows = torch.from_numpy(cells)  # as NumPy's own threads would get in the way of torch's
    covariance = (rows.T @ rows / len(rows)).numpy()
    variances, axes = linalg.eigh(covariance, subset_by_index=(channels - count, channels - 1))
    variances, axes = variances[::-1], axes[:, ::-1]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(count)] < 0, -1, 1)
    shares = np.full((len(cells), 3), 0.5)
    floor = 1e-6 * max(float(variances[0]), float(np.finfo(np.float32).tiny))
    for index in np.flatnonzero(variances > floor):
        projection = cells @ axes[:, index]
        low, high = (float(np.percentile(projection, share)) for share in PCA_RANGE)
        if high > low:
            shares[:, index] = (projection - low) / (high - low)
    first, second = to_pixels(shares).reshape(2, height, width, 3)
    return first, second


def size_within(height: int, width: int, max_side: int, min_side: int = 1) -> tuple[int, int]:
    """(height, width) scaled so that the longer side lies in [min_side, max_side]; the aspect is kept [pixels]."""
    longer = max(height, width)
    ratio = min(max(longer, min_side), max_side) / longer
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def fit_within(picture: Shown, max_side: int, min_side: int = 1) -> Shown:
    """Resize a picture to `size_within`, antialiased: floats (H, W) or (H, W, C), or uint8 RGB (H, W, 3) -> same type."""
    height, width = size_within(picture.shape[0], picture.shape[1], max_side, min_side)
    if (height, width) == picture.shape[:2]:
        return picture
    if picture.dtype == np.uint8:
        # means over whole pixels first: as good to the eye, and several times as fast for large photos
        image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0)
        return np.asarray(image)  # type: ignore[return-value]
    planes = picture.astype(np.float32).reshape(*picture.shape[:2], -1)
    resized = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(planes[..., i])).resize((width, height), Image.Resampling.BILINEAR)
        )
        for i in range(planes.shape[2])
    ]
    return np.stack(resized, axis=-1).reshape(height, width, *picture.shape[2:])  # type: ignore[return-value]


def reduce_within(picture: Float | Pixels, max_side: int) -> Pixels:
    """Means over n x n pixels with the least n for which the longer side is at most `max_side`: (H, W, 3) -> uint8 RGB.

    Fast, and in little memory beside the picture, floats in [0, 1] or uint8, which comes back itself where it fits as uint8.
    """
    n = -(-max(picture.shape[:2]) // max_side)
    if n == 1:
        return to_pixels(picture)
    blocks = row_blocks(picture.shape[0], picture.shape[1], n)
    return np.concatenate([np.asarray(Image.fromarray(to_pixels(picture[rows])).reduce(n)) for rows in blocks])


def fraction_above(anomaly_map: Float, threshold: float = THRESHOLD) -> float:
    """Share of the pixels, 0 to 1, that lie above a threshold on the fixed 0-1 scale, by default the pixel threshold."""
    return float((anomaly_map > threshold).mean())


def to_pixels(picture: Float | Pixels) -> Pixels:
    """Floats -> uint8, [0, 1] to 0-255, rounded and clipped; same shape. uint8 stays as it is."""
    if picture.dtype == np.uint8:
        return picture  # type: ignore[return-value]
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


@cache
def _tables() -> NDArray[np.uint8]:
    """(maps, 256, 3), in the order of COLOR_MAPS."""
    with Image.open(ASSETS / "colormaps.png") as picture:
        return np.asarray(picture.convert("RGB"))


def _look_up(share: Float, cmap: ColorMap) -> Pixels:
    """Colours of shares in [0, 1], any shape (...) -> uint8 (..., 3), as matplotlib gives them."""
    if cmap not in COLOR_MAPS:
        raise ValueError(f"cmap must be one of {', '.join(COLOR_MAPS)}, but got {cmap!r}")
    return _tables()[COLOR_MAPS.index(cmap)][np.minimum((share * 256).astype(np.intp), 255)]
