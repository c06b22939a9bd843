"""Images that need packages of their own: HEIC/HEIF (pillow-heif) and DICOM (pydicom); and which files are videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import UserError
from .image_checks import DECODE_ERRORS, check_pixels, damaged, optional_package
from .value_range import ValueRange

SPECIAL_FORMATS = {
    "HEIF": (".heic", ".heif", ".hif"),
    "DICOM": (".dcm", ".dicom"),
    "video": (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"),
}
"""Formats of which single images are read by optional packages, with their file endings."""
HEAD_BYTES = 132  # that tell the format

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free")  # one of which MP4 and QuickTime files start with
_DEPTH_OF_LUT = 2  # place in a LUTDescriptor


def special_format(head: bytes, name: str) -> str | None:
    """Which of `SPECIAL_FORMATS` a file has, by its first `HEAD_BYTES`, or by its ending where DICOM leaves these out."""
    if head[128:132] == b"DICM" or (Path(name).suffix.lower() in SPECIAL_FORMATS["DICOM"] and head[:4] != b"II*\0"):
        return "DICOM"
    if head[:4] == b"\x1aE\xdf\xa3" or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "video"
    if head[4:8] not in _BOXES:
        return None
    brands = head[8 : min(int.from_bytes(head[:4]), len(head))]
    if b"avif" in brands or b"avis" in brands:
        return None
    return "HEIF" if head[8:12] in _HEIF_BRANDS else "video"


def _heif_package(name: str) -> Any:
    return optional_package("pillow_heif", "pillow-heif", f"{name} is a HEIC image, which")


def _dicom_package(name: str) -> Any:
    package = optional_package("pydicom", "pydicom", f"{name} is a DICOM image, which")
    optional_package("pydicom.pixels", "pydicom", f"{name} is a DICOM image, which")
    return package


def read_heif(file: BinaryIO, index: int | None, name: str) -> np.ndarray:
    """Image `index` of a HEIF file, None for its primary one: uint8 (H, W, 3 or 4), or (H, W) grey; turned upright."""
    pillow_heif = _heif_package(name)
    try:
        images = pillow_heif.open_heif(file)
        image = images[images.primary_index if index is None else index]
        check_pixels(image.size[0], image.size[1], name)
        return np.array(image)  # a copy: the array that older versions give points into memory that goes with the file
    except UserError:
        raise
    except DECODE_ERRORS as error:
        raise damaged(name, error) from error


def count_special(file: BinaryIO, kind: str, name: str) -> int:
    """How many images a HEIF or DICOM file holds."""
    package = _heif_package(name) if kind == "HEIF" else _dicom_package(name)
    try:
        if kind == "HEIF":
            return len(package.open_heif(file))
        return int(package.dcmread(file, stop_before_pixels=True, force=True).get("NumberOfFrames") or 1)
    except DECODE_ERRORS as error:
        raise damaged(name, error) from error


def read_dicom(file: BinaryIO, index: int, given: ValueRange | None, name: str) -> np.ndarray:
    """Frame `index` of a DICOM file: grey (H, W) or RGB (H, W, 3).

    Grey values are rescaled by slope and intercept. Without a `given` range they are float in [0, 1], as the file's window shows
    them, or else on the full scale of the stored bits. With one they stay as they are. MONOCHROME1, where low is bright, is
    turned round.
    """
    pydicom = _dicom_package(name)
    try:
        facts = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        check_pixels(int(facts.Columns), int(facts.Rows), name)
        file.seek(0)
        stored = pydicom.pixels.pixel_array(file, index=index)
        if facts.PhotometricInterpretation == "PALETTE COLOR":
            stored = pydicom.pixels.apply_color_lut(stored, facts)
        if stored.ndim == 3:
            return _colours(stored, facts, given)
        return _grey(pydicom.pixels, stored, _of_frame(facts, index), given)
    except UserError:
        raise
    except (*DECODE_ERRORS, AttributeError, NotImplementedError) as error:  # AttributeError: an element is missing
        if "missing dependencies" in str(error) or isinstance(error, NotImplementedError):
            raise UserError(
                f"DICOM of a kind that is not supported: {name}: {' '.join(str(error).split())[:300]}; save it uncompressed, "
                "or install the decoder that the sentence names"
            ) from error
        raise damaged(name, error) from error


def _of_frame(facts: Any, index: int) -> Any:
    """The facts with what an enhanced, multi-frame file says of slope and window in the groups of all frames and of one."""
    groups = [*facts.get("SharedFunctionalGroupsSequence", [])[:1]]
    groups += facts.get("PerFrameFunctionalGroupsSequence", [])[index : index + 1]
    for group in groups:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(name, []):
                facts.update(item)
    return facts


def _colours(stored: np.ndarray, facts: Any, given: ValueRange | None) -> np.ndarray:
    if stored.dtype == np.uint8 or given is not None:
        return stored
    return stored / np.float32(
        2**16 - 1 if "RedPaletteColorLookupTableDescriptor" in facts else 2**facts.BitsStored - 1
    )


def _grey(package: Any, stored: np.ndarray, facts: Any, given: ValueRange | None) -> np.ndarray:
    values = package.apply_modality_lut(stored, facts)
    low, high = (given.low, given.high) if given else (0.0, 1.0)
    if given is None:
        values = _displayed(package, values, facts)
    return low + high - values if facts.PhotometricInterpretation == "MONOCHROME1" else values


def _displayed(package: Any, values: np.ndarray, facts: Any) -> np.ndarray:
    """Rescaled values as the file's window or table of values of interest shows them, in [0, 1]."""
    bits, signed = int(facts.BitsStored), bool(facts.PixelRepresentation)
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if table := facts.get("ModalityLUTSequence"):
        ends = [0.0, 2.0 ** table[0].LUTDescriptor[_DEPTH_OF_LUT] - 1]
    else:
        ends = [float(end) for end in package.apply_modality_lut(np.array([least, most]), facts)]
    if "WindowCenter" in facts and "WindowWidth" in facts:
        values = package.apply_windowing(values, facts)
    elif table := facts.get("VOILUTSequence"):
        values = package.apply_voi(np.rint(values).astype(np.int32), facts)
        ends = [0.0, 2.0 ** table[0].LUTDescriptor[_DEPTH_OF_LUT] - 1]
    else:
        ends = sorted(ends)
    return ((values - ends[0]) / (ends[1] - ends[0])).clip(0, 1)
