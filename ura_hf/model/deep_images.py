"""Reads samples of more than 8 bits per channel that Pillow would cut or scale: in PNG, PGM, PPM and TIFF."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from PIL import Image

from .errors import UserError
from .value_range import FULL_SCALE_16_BIT, ValueRange

_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = (1,), (2,)


def deep_samples(image: Image.Image, given: ValueRange | None) -> np.ndarray | None:
    """Integer samples (H, W, C) of a PNG, PGM or PPM of more than 8 bits; None for other or already decoded images.

    PNG: 16-bit colour or grey + alpha. PGM and PPM: a largest value above 255, which counts as 65535 unless a range is given.
    """
    if not getattr(image, "tile", None) or image.tell() > 0:  # later frames of an APNG come whole from Pillow alone
        return None
    tile = image.tile[0]  # type: ignore[attr-defined]
    if image.format == "PNG" and tile.args in ("RGB;16B", "RGBA;16B", "LA;16B"):
        return _png_samples(_stored(image), tile)
    scaled = tile.codec_name in ("ppm", "ppm_plain") and image.mode in ("I", "RGB")
    if image.format == "PPM" and scaled and tile.args[1] > 255:
        levels, largest = _pnm_levels(_stored(image)[tile.offset :], tile.codec_name == "ppm", image), tile.args[1]
        if levels.min() < 0 or levels.max() > largest:
            raise ValueError(f"its largest value is {largest}, but it holds [{levels.min()}, {levels.max()}]")
        scale = FULL_SCALE_16_BIT / largest if given is None else 1
        return np.rint(levels * scale).astype(np.int32)
    return None


def _stored(image: Image.Image) -> bytes:
    """The whole file of an image that is not decoded yet."""
    stream = image.fp  # type: ignore[attr-defined]
    position = stream.tell()
    stream.seek(0)
    data: bytes = stream.read()
    stream.seek(position)
    return data


def _png_samples(data: bytes, tile: Any) -> np.ndarray:
    """Both bytes of every sample as uint16.

    Pillow holds 8 bits a channel. Its raw mode "RGB;16B" keeps the first, high byte of each sample and "RGB;16L" the
    second one, so two passes give all 16 bits.
    """

    def decode(raw_mode: str) -> np.ndarray:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as copy:
            copy.tile = [tile._replace(args=raw_mode)]  # type: ignore[attr-defined]
            return np.asarray(copy).astype(np.uint16)

    if tile.args == "LA;16B":
        grey_high, grey_low, alpha_high, alpha_low = np.moveaxis(decode("RGBA"), 2, 0)
        return np.stack([grey_high << 8 | grey_low, alpha_high << 8 | alpha_low], axis=2)
    return decode(tile.args) << 8 | decode(tile.args.replace("16B", "16L"))


def _pnm_levels(body: bytes, is_binary: bool, image: Image.Image) -> np.ndarray:
    """The numbers behind the header of a PGM or PPM, two bytes each or in words."""
    shape = (image.height, image.width, len(image.getbands()))
    count = image.height * image.width * shape[2]
    if is_binary:
        return np.frombuffer(body, ">u2", count).reshape(shape)
    return np.fromstring(re.sub(rb"#[^\r\n]*", b"", body), np.int64, sep=" ")[:count].reshape(shape)


def tiff_samples(page: Any, name: str, given: ValueRange | None) -> np.ndarray:
    """Samples (H, W, C) of a TIFF page as grey or RGB, larger is brighter, with alpha only if the page declares it.

    `given` tells which values are black and white; else it is the full scale of 16 bits, or 1 of floats.
    """
    samples = page.asarray()
    if samples.ndim == 3 and page.axes.startswith("S"):
        samples = np.moveaxis(samples, 0, -1)
    samples = np.atleast_3d(samples)
    extra, kind = tuple(page.extrasamples), getattr(page.photometric, "name", page.photometric)
    colours = samples.shape[2] - len(extra)
    if colours == 1 and extra[:2] == (0, 0):  # colour that its writer did not name
        colours, extra = 3, extra[2:]
    samples = samples[..., : colours + (extra[:1] in (_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA))]
    low, white = (given.low, given.high) if given else (0.0, FULL_SCALE_16_BIT if samples.dtype.kind in "iu" else 1.0)
    if kind == "SEPARATED" and samples.shape[2] == 4:
        left = 1 - samples.astype(np.float64) / white
        light = left[..., :3] * left[..., 3:]
        return np.rint(light * white).astype(np.int32) if samples.dtype.kind in "iu" else light * white
    if kind == "MINISWHITE" and samples.shape[2] == 1:
        turned = low + white - samples.astype(np.float64)
        return turned.astype(np.int32) if samples.dtype.kind in "iu" and low == 0 else turned
    if kind not in ("RGB", "MINISBLACK"):
        raise UserError(f"TIFF with colours that are not read at this depth ({kind}): {name}; save it as RGB")
    return _divided_by_alpha(samples, white) if extra[:1] == _ASSOCIATED_ALPHA else samples


def _divided_by_alpha(samples: np.ndarray, white: float) -> np.ndarray:
    """Samples with alpha as the last, whose colours were stored multiplied by it, as they were before."""
    white = 255 if samples.dtype == np.uint8 else white
    alpha = samples[..., -1:].astype(np.float64)
    colours = (samples[..., :-1] * (white / np.maximum(alpha, np.finfo(np.float32).tiny))).clip(max=white)
    if samples.dtype.kind in "iu":
        colours = np.rint(colours)
    return np.concatenate([colours, alpha], axis=2).astype(samples.dtype)
