"""Decodes what Pillow and tifffile read: samples as they are stored, upright."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from .deep_images import deep_samples, tiff_samples
from .errors import UserError
from .image_checks import DECODE_ERRORS, check_pixels, damaged, optional_package
from .pixels import from_pil
from .value_range import FULL_SCALE_16_BIT, ValueRange

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

_ORIENTATION_TAG = 274
_BITS_PER_SAMPLE_TAG = 258
_PHOTOMETRIC_TAG = 262
_SUBFILE_TAG, _REDUCED_OR_MASK = 254, 0b101


def decode(file: BinaryIO, name: str, given: ValueRange | None) -> tuple[np.ndarray, int]:
    """The first image of an open file, which may come after a thumbnail, as `decode_pil`, and how many the file has.

    Raises:
        UserError: It is no image, damaged or too large.
    """
    image = open_image(file, name)
    if image is None:
        numbers = tiff_numbers(file, name)
        return decode_tiff(file, name, given, numbers[0] - 1), len(numbers)
    with image:
        numbers = page_numbers(image, name)
        return decode_page(image, name, given, numbers[0] - 1), len(numbers)


def open_image(file: BinaryIO, name: str) -> Image.Image | None:
    """A file as Pillow opens it, None for a TIFF that it cannot hold."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file, formats=tuple(FORMATS))
    except Image.DecompressionBombError as error:
        raise UserError(f"image is too large: {name}: {error}; crop it or make it smaller") from error
    except UnidentifiedImageError as error:
        file.seek(0)
        if file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        raise UserError(
            f"file is not an image that can be read: {name}; save it as PNG, JPEG, TIFF or BMP, or remove it"
        ) from error
    except DECODE_ERRORS as error:
        raise damaged(name, error) from error


def page_numbers(image: Image.Image, name: str) -> list[int]:
    """The numbers from 1 of the frames or pages of an opened file; thumbnails and masks among a TIFF's pages are left out.

    The further pictures of a phone's JPEG (MPO) are views of one photo, which counts as one.
    """
    try:
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        numbers = list(range(1, count + 1))
        if image.format == "TIFF" and count > 1:
            shown = [number for number in numbers if not _subfile(image, number) & _REDUCED_OR_MASK]
            image.seek(0)
            return shown or [1]
        return numbers
    except DECODE_ERRORS as error:
        raise damaged(name, error) from error


def _subfile(image: Image.Image, number: int) -> int:
    image.seek(number - 1)
    return int(image.tag_v2.get(_SUBFILE_TAG, 0))  # type: ignore[attr-defined]


def decode_page(image: Image.Image, name: str, given: ValueRange | None, index: int = 0) -> np.ndarray:
    """A page of an opened file, as `decode_pil`."""
    try:
        if image.tell() != index:
            image.seek(index)
    except DECODE_ERRORS as error:
        raise damaged(name, error) from error
    if image.format == "TIFF" and _is_deep_multichannel_tiff(image):
        return decode_tiff(image.fp, name, given, index)  # type: ignore[attr-defined]
    return decode_pil(image, name, given)


def _is_deep_multichannel_tiff(image: Image.Image) -> bool:
    bits = image.tag_v2.get(_BITS_PER_SAMPLE_TAG, (1,))  # type: ignore[attr-defined]
    return len(bits) > 1 and max(bits) > 8


def decode_pil(image: Image.Image, name: str, given: ValueRange | None) -> np.ndarray:
    """Samples (H, W) or (H, W, C) of grey or RGB, with alpha or not, as stored, upright.

    What is stored the other way round, low for white or inks in place of light, is turned round on the `given` scale.
    """
    check_pixels(*image.size, name)
    try:
        samples = deep_samples(image, given)
        if samples is None:
            image.load()
            samples = _pil_samples(image, given)
        return _orient(samples, image.getexif().get(_ORIENTATION_TAG, 1))
    except DECODE_ERRORS as error:
        raise damaged(name, error) from error


def _pil_samples(image: Image.Image, given: ValueRange | None) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        samples = np.asarray(image)
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC_TAG) == 0:  # type: ignore[attr-defined]
            if given is not None and given.clips:
                return given.low + given.high - samples.astype(np.float64)
            white = int(given.high if given else FULL_SCALE_16_BIT)
            return (given.high if given else 1) - samples if image.mode == "F" else white - samples.astype(np.int32)
        return samples
    return from_pil(image, "RGBA" if image.has_transparency_data else "RGB")


def decode_tiff(file: BinaryIO, name: str, given: ValueRange | None, index: int = 0) -> np.ndarray:
    """Samples of a page of a TIFF that Pillow cannot hold: 16-bit or float colour."""
    with _opened_tiff(file, name) as tiff:
        page = tiff.pages[index]
        check_pixels(page.imagewidth, page.imagelength, name)
        samples = page.size // max(page.imagewidth * page.imagelength, 1)
        if samples > MAX_SAMPLES:
            raise UserError(
                f"TIFF of {samples} samples a pixel, but at most {MAX_SAMPLES} are read: {name}; save it as grey or RGB"
            )
        tag = page.tags.get(_ORIENTATION_TAG)
        return _orient(tiff_samples(page, name, given), int(tag.value) if tag is not None else 1)


def tiff_numbers(file: BinaryIO, name: str) -> list[int]:
    """`page_numbers` of such a TIFF."""
    with _opened_tiff(file, name) as tiff:
        return [number for number, page in enumerate(tiff.pages, 1) if not page.aspage().is_reduced] or [1]


@contextmanager
def _opened_tiff(file: BinaryIO, name: str) -> Iterator[Any]:
    tifffile = optional_package("tifffile", "tifffile", f"{name} is a TIFF that")
    try:
        file.seek(0)
        with tifffile.TiffFile(file) as tiff:
            yield tiff
    except UserError:
        raise
    except (*DECODE_ERRORS, MemoryError, tifffile.TiffFileError) as error:
        if "imagecodecs" in str(error):
            raise UserError(
                f"TIFF compression is not supported: {name}; save it uncompressed or with deflate compression"
            ) from error
        raise damaged(name, error) from error


def _orient(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W) or (H, W, C) samples upright as EXIF orientation 1..8 says; other values leave them."""
    if orientation in (5, 6, 7, 8):
        samples = np.swapaxes(samples, 0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
