"""Reading of one image or one mask, whatever its bit depth, colour mode or container."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from .deep_images import FULL_SCALE_16_BIT, deep_samples, tiff_samples
from .errors import UserError
from .image_sources import read_bytes

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
}
"""Formats that are read, by Pillow's names, with their file endings. No others are tried: EPS would start Ghostscript."""
if "avif" in features.modules:  # from Pillow 11.3 on
    FORMATS["AVIF"] = (".avif", ".avifs")

MAX_SAMPLES = 5  # of a pixel: four colours and alpha
MAX_PIXELS = 200_000_000
"""Largest image [pixels] that is decoded; files stop earlier, at Pillow's own limit of about 179 megapixels."""

_FLOAT_TOLERANCE = 1e-5
_ORIENTATION_TAG = 274
_BITS_PER_SAMPLE_TAG = 258
_PHOTOMETRIC_TAG = 262
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def load_image(source: Any, *, max_value: float | None = None) -> np.ndarray:
    """Read an image as RGB.

    Args:
        source: a path, a URL, the bytes of a file, an open binary file, a `PIL.Image.Image`, or an array of dtype bool, uint8,
            uint16 or float in [0, 1]: (H, W), or (H, W, C) or (C, H, W) with C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA.
        max_value: the value in a 16-bit source that stands for white, e.g. 4095 for a 12-bit camera; None for 65535,
            in PGM and PPM for the largest value that the file names.

    Returns:
        float32 (H, W, 3) in [0, 1]. EXIF orientation is applied, transparency is laid over white, an animation gives
        its first frame.

    Raises:
        UserError: the file is missing, empty, not an image, truncated or too large, or its values leave their range.
    """
    raw, name = _decode(source, max_value)
    values = _to_unit_range(raw, max_value, name)
    if values.shape[2] in (2, 4):
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


def _decode(source: Any, white: float | None = None) -> tuple[np.ndarray, str]:
    """Return samples (H, W, C) of grey or RGB, with alpha or not, as stored, and the name that error messages use.

    What is stored the other way round, 0 for `white` (None: 65535) or inks in place of light, is turned round.
    """
    if isinstance(source, np.ndarray):
        raw, name = _channels_last(source), "array"
        _check_pixels(raw.shape[1] if raw.ndim > 1 else 1, raw.shape[0] if raw.ndim else 1, name)
    elif isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "PIL image")
        raw = _decode_pil(source, name, white)
    else:
        data, name = read_bytes(source)
        raw = _decode_bytes(data, name, white)
    if raw.ndim == 2:
        raw = raw[..., None]
    if raw.ndim != 3 or raw.shape[2] not in (1, 2, 3, 4) or raw.size == 0:
        raise UserError(
            f"{name} must be of shape (H, W) or (H, W, 1 to 4) with H and W at least 1, but got {raw.shape}"
        )
    return raw, name


def _channels_last(array: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, C) where the shape is such; any other array as it is."""
    is_first = array.ndim == 3 and array.shape[0] in (1, 2, 3, 4) and array.shape[2] not in (1, 2, 3, 4)
    return np.moveaxis(array, 0, 2) if is_first else array


def _decode_bytes(data: bytes, name: str, white: float | None) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=tuple(FORMATS))
    except Image.DecompressionBombError as error:
        raise UserError(f"image is too large: {name}: {error}; crop it or make it smaller") from error
    except UnidentifiedImageError as error:
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _decode_tiff(data, name, white)
        raise UserError(
            f"file is not an image that can be read: {name}; save it as PNG, JPEG, TIFF or BMP, or remove it"
        ) from error
    except _DECODE_ERRORS as error:
        raise _damaged(name, error) from error
    with image:
        if image.format == "TIFF" and _is_deep_multichannel_tiff(image):
            return _decode_tiff(data, name, white)
        return _decode_pil(image, name, white)


def _is_deep_multichannel_tiff(image: Image.Image) -> bool:
    bits = image.tag_v2.get(_BITS_PER_SAMPLE_TAG, (1,))  # type: ignore[attr-defined]
    return len(bits) > 1 and max(bits) > 8


def _decode_pil(image: Image.Image, name: str, white: float | None) -> np.ndarray:
    _check_pixels(*image.size, name)
    try:
        samples = deep_samples(image, white)
        if samples is None:
            image.load()
            samples = _pil_samples(image, white)
        return _orient(samples, image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODE_ERRORS as error:
        raise _damaged(name, error) from error


def _pil_samples(image: Image.Image, white: float | None) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        samples = np.asarray(image)
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC_TAG) == 0:  # type: ignore[attr-defined]
            return 1 - samples if image.mode == "F" else int(white or FULL_SCALE_16_BIT) - samples.astype(np.int32)
        return samples
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _decode_tiff(data: bytes, name: str, white: float | None) -> np.ndarray:
    """Samples of the first page of a TIFF that Pillow cannot hold: 16-bit or float colour."""
    try:
        import tifffile
    except ImportError as error:  # where this file came with a checkpoint
        raise UserError(f"{name} is a TIFF that needs the package tifffile: install it.") from error
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages.first
            _check_pixels(page.imagewidth, page.imagelength, name)
            samples = page.size // max(page.imagewidth * page.imagelength, 1)  # type: ignore[union-attr]
            if samples > MAX_SAMPLES:
                raise UserError(
                    f"TIFF of {samples} samples a pixel, but at most {MAX_SAMPLES} are read: {name}; save it as grey or RGB"
                )
            tag = page.tags.get(_ORIENTATION_TAG)
            return _orient(
                tiff_samples(page, name, white or FULL_SCALE_16_BIT), int(tag.value) if tag is not None else 1
            )
    except UserError:
        raise
    except (*_DECODE_ERRORS, MemoryError, tifffile.TiffFileError) as error:
        if "imagecodecs" in str(error):
            raise UserError(
                f"TIFF compression is not supported: {name}; save it uncompressed or with deflate compression"
            ) from error
        raise _damaged(name, error) from error


def _orient(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W) or (H, W, C) samples upright as EXIF orientation 1..8 says; other values leave them."""
    if orientation in (5, 6, 7, 8):
        samples = np.swapaxes(samples, 0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _to_unit_range(raw: np.ndarray, max_value: float | None, name: str) -> np.ndarray:
    if raw.dtype in (np.bool_, np.uint8):
        return np.divide(raw, 1 if raw.dtype == np.bool_ else 255, dtype=np.float32)
    low, high = raw.min(), raw.max()
    if raw.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UserError(f"{name} must hold finite values, but got NaN or infinite ones; replace them")
        if low < -_FLOAT_TOLERANCE or high > 1 + _FLOAT_TOLERANCE:
            raise UserError(
                f"{name} holds floating-point values, which must lie in [0, 1], "
                f"but got [{low:g}, {high:g}]; divide them by their full scale"
            )
        return raw.astype(np.float32).clip(0.0, 1.0)
    if raw.dtype.newbyteorder("=") not in (np.uint16, np.int32):
        raise UserError(
            f"{name} must be bool, uint8, uint16 or floating point, but got {raw.dtype}; convert it to one of these"
        )
    full_scale = FULL_SCALE_16_BIT if max_value is None else float(max_value)
    if not full_scale > 0:
        raise UserError(
            f"max_value must be positive, but got {max_value}; give the value of white, e.g. 4095 for 12 bits"
        )
    if low < 0 or high > full_scale:
        raise UserError(
            f"{name} must hold values in [0, {full_scale:g}], but got [{low}, {high}]; "
            "set max_value to the value that stands for white"
        )
    return np.divide(raw, full_scale, dtype=np.float32)


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(
            f"image is too large: {name}: {width}x{height} pixels, but at most {MAX_PIXELS // 10**6} megapixels are "
            "read; crop it or make it smaller"
        )


def _damaged(name: str, error: Exception) -> UserError:
    return UserError(f"image file is truncated or damaged: {name}: {error}; replace it or remove it")
