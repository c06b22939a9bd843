"""Reading of one image or one mask, whatever its bit depth, colour mode or container."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .errors import UserError
from .frames import Frame, is_video, read_frame
from .image_checks import check_pixels
from .image_sources import read_bytes
from .pillow_images import FORMATS, decode, decode_pil
from .special_images import HEAD_BYTES, SPECIAL_FORMATS, count_special, read_dicom, read_heif, special_format
from .value_range import ValueRange, to_unit_range, value_range_of

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(ending for endings in (FORMATS | SPECIAL_FORMATS).values() for ending in endings)
"""File name endings, in lower case, that count as images."""


def load_image(
    source: Any, *, max_value: float | None = None, value_range: Sequence[float] | None = None
) -> np.ndarray:
    """Read an image as RGB.

    Args:
        source: a path, a `Frame` of a file with several, a URL, the bytes of a file, an open binary file, a `PIL.Image.Image`, or
            an array of numbers: (H, W), or (H, W, C) or (C, H, W) with C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA.
        max_value: the value that stands for white, e.g. 4095 for a 12-bit camera; None for 65535, 1 in floats, and in PGM and
            PPM the largest value that the file names. Images of 8 bits always have a white of 255.
        value_range: the values that stand for black and white, e.g. (-20, 120), in place of `max_value`; what lies beyond
            counts as black or white. In DICOM both stand in place of the file's window.

    Returns:
        float32 (H, W, 3) in [0, 1]. EXIF orientation is applied, transparency is laid over white. Of a file with several pages
        or frames it is the first one, which is logged as a warning: `frames` gives all of them.

    Raises:
        UserError: the file is missing, empty, not an image, truncated or too large, its values leave their range, or it needs a
            package that is not installed.
    """
    pixels = load_pixels(source, max_value=max_value, value_range=value_range)
    return np.divide(pixels, 255, dtype=np.float32) if pixels.dtype == np.uint8 else pixels


def load_pixels(
    source: Any, *, max_value: float | None = None, value_range: Sequence[float] | None = None
) -> np.ndarray:
    """As `load_image`, but opaque images of 8 bits come as they are stored, uint8 (H, W, 3), at a quarter of the memory.

    An array that is given may be returned itself.
    """
    given = value_range_of(max_value, value_range)
    values, name = _decode(source, given)
    if values.dtype == np.uint8 and values.shape[2] in (2, 4) and (values[..., -1] == 255).all():
        values = values[..., :-1]
    has_alpha = values.shape[2] in (2, 4)
    if has_alpha and given is not None and given.clips and values.dtype != np.uint8:
        raise UserError(f"value_range can't be used for {name}, which has transparency; save it without")
    if values.dtype != np.uint8 or has_alpha:
        values = to_unit_range(values, given, name)
    if has_alpha:
        alpha = values[..., -1:]
        values = values[..., :-1] * alpha + (1.0 - alpha)
    return np.ascontiguousarray(np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values)


def load_mask(path: Any, size: tuple[int, int] | None) -> np.ndarray:
    """Read a ground-truth mask: every pixel that is neither black nor fully transparent is a defect.

    JPEG stores black inexactly, so in a JPEG mask every pixel of at least 128 of 255 is a defect.

    Args:
        path: anything `load_image` takes.
        size: (H, W) that the mask must have, the size of its image; None accepts any.

    Returns:
        bool (H, W).

    Raises:
        UserError: as `load_image`, or the mask's size is not `size`.
    """
    raw, name = _decode(path)
    has_alpha = raw.shape[2] in (2, 4)
    levels = raw[..., : raw.shape[2] - has_alpha]
    lossy = Path(name).suffix.lower() in FORMATS["JPEG"]
    mask = np.any(levels >= 128 if lossy else levels != 0, axis=2)
    if has_alpha:
        mask &= raw[..., -1] != 0
    if size is not None and mask.shape != tuple(size):
        raise UserError(
            f"mask {name} must have the size of its image, {size[1]}x{size[0]} pixels (width x height), "
            f"but got {mask.shape[1]}x{mask.shape[0]}; export it again at the image's size"
        )
    return mask


def image_size(source: Any) -> tuple[int, int]:
    """(H, W) as `load_image` would return it, after decoding every pixel: a truncated file raises.

    Raises:
        UserError: as `load_image`, but for values out of their range.
    """
    height, width = _decode(source)[0].shape[:2]
    return height, width


def largest_level(source: Any) -> int | None:
    """Largest stored value of an integer image of more than 8 bits; None for any other image.

    Raises:
        UserError: as `load_image`, but for values out of their range.
    """
    samples = _decode(source)[0]
    return int(samples.max()) if samples.dtype.kind in "iu" and samples.dtype.itemsize > 1 else None


def _decode(source: Any, given: ValueRange | None = None) -> tuple[np.ndarray, str]:
    """Return samples (H, W, C) of grey or RGB, with alpha or not, as stored, and the name that error messages use.

    What is stored the other way round, low for white or inks in place of light, is turned round on the `given` scale.
    """
    count = 1
    if isinstance(source, np.ndarray):
        raw, name = _channels_last(source), "array"
        check_pixels(raw.shape[1] if raw.ndim > 1 else 1, raw.shape[0] if raw.ndim else 1, name)
    elif isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "PIL image")
        raw = decode_pil(source, name, given)
    elif isinstance(source, Frame):
        raw, name = read_frame(source, given), str(source)
    elif is_video(source):
        raw, name, count = read_frame(Frame(Path(source), 1), given), str(source), 2
    else:
        data, name = read_bytes(source)
        raw, count = _decode_bytes(data, name, given)
    if count > 1:
        logger.warning("%s holds several images, and only the first is read: ura_hf.frames gives all.", name)
    if raw.ndim == 2:
        raw = raw[..., None]
    if raw.ndim != 3 or raw.shape[2] not in (1, 2, 3, 4) or raw.size == 0:
        raise UserError(
            f"{name} must be of shape (H, W) or (H, W, 1 to 4) with H and W at least 1, but got {raw.shape}"
        )
    return raw, name


def _decode_bytes(data: bytes, name: str, given: ValueRange | None) -> tuple[np.ndarray, int]:
    """The first image of a file, and how many it holds."""
    kind = special_format(data[:HEAD_BYTES], name)
    if kind == "HEIF":
        return read_heif(io.BytesIO(data), None, name), count_special(io.BytesIO(data), kind, name)
    if kind == "DICOM":
        return read_dicom(io.BytesIO(data), 0, given, name), count_special(io.BytesIO(data), kind, name)
    if kind == "video":
        raise UserError(f"{name} is a video, of which frames are read from a path alone; save it as a file")
    return decode(io.BytesIO(data), name, given)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, C) where the shape is such; any other array as it is."""
    is_first = array.ndim == 3 and array.shape[0] in (1, 2, 3, 4) and array.shape[2] not in (1, 2, 3, 4)
    return np.moveaxis(array, 0, 2) if is_first else array
