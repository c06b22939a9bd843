"""What was used of the files that were given, what was not, and why: one table for every command."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model.errors import UserError
from ..model.images import IMAGE_SUFFIXES
from .folder import images_below, list_images, list_pictures, natural_key, other_files
from .samples import LeftOut, Sample

REASONS = {
    "copies": "copies of another image, byte by byte",
    "companions": "masks or heatmaps of images beside them",
    "in_subfolders": "images in subfolders, without --recursive",
    "unreadable_formats": "pictures in a format that is not read: save them as PNG, JPEG or TIFF",
    "broken_links": "links to files that are not there",
    "other_files": "files that are no images by name",
    "no_verdict": "images without a verdict, for the reasons given",
    "later_pages": "files of whose pages or frames not all are read: --frames chooses",
    "not_drawn": "good images more than are used, not drawn by the seed",
    "loose": "images beside the folders of good and defective ones",
    "defective": "images of defective parts among those to train on",
    "validation": "images of a validation split",
    "unlabelled": "images without labels",
    "between": "solar cells with a defect probability between 0 and 1",
    "unknown": "photos that are not like the part at all",
    "unmatched_masks": "masks that belong to no test image, or to two",
    "missing_masks": "masks that are named and are not there",
    "unmasked": "defective images without a mask, which the pixel figures leave out",
    "black_masks": "masks that mark nothing, whose images the pixel figures leave out",
}
"""Why files are left out, by the keys of records, in the order of the table."""
UNREADABLE = frozenset(
    (
        *(".heic", ".heif", ".hif", ".jxl", ".psd", ".svg", ".pdf", ".eps", ".exr", ".hdr", ".tga", ".ico"),
        *(".dcm", ".dicom", ".nii", ".mha", ".fits", ".fit"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".raw"),
        *(".mp4", ".avi", ".mov", ".mkv"),
    )
)
"""Endings of pictures and films, of which those that are not in IMAGE_SUFFIXES can't be read."""
SHOWN = 3  # names of a reason


def joined(*parts: Mapping[str, Sequence[Path]]) -> LeftOut:
    """All files by their reasons, each once, in the order of `REASONS`; reasons without files are left out."""
    files = {reason: [file for part in parts for file in part.get(reason, ())] for reason in REASONS}
    return {reason: list(dict.fromkeys(found)) for reason, found in files.items() if found}


def left_out_of(folders: Iterable[Path], used: Sequence[Path], known: LeftOut) -> LeftOut:
    """What is left out of folders of images, in which and below which is more than what is used.

    Args:
        folders: Folders that were searched for images.
        used: Images that are used, and files that belong to them.
        known: What is left out for another reason; it is in the result, too.
    """
    around = joined(*(_beside(folder) for folder in folders if folder.is_dir()))
    taken = {*used, *itertools.chain.from_iterable(known.values())}
    around = {reason: [path for path in files if path not in taken] for reason, files in around.items()}
    return joined(known, around)


def _beside(folder: Path) -> LeftOut:
    """What lies in a folder beside its images."""
    others = other_files(folder)
    broken = [path for path in others if not path.exists()]
    others = [path for path in others if path.exists()]
    unreadable = [path for path in others if path.suffix.lower() in UNREADABLE - IMAGE_SUFFIXES]
    return {
        "companions": sorted(set(list_pictures(folder)).difference(list_images(folder)), key=natural_key),
        "in_subfolders": images_below(folder),
        "unreadable_formats": unreadable,
        "broken_links": broken,
        "other_files": [path for path in others if path not in unreadable],
    }


def without_masks(samples: Sequence[Sample]) -> LeftOut:
    """Defective images that have no mask though others have."""
    defective = [sample for sample in samples if sample.label]
    if not any(sample.mask for sample in defective):
        return {}
    return joined({"unmasked": [sample.image for sample in defective if not sample.mask]})


def as_record(left_out: Mapping[str, Sequence[Path]]) -> dict[str, dict[str, Any]]:
    """Of every reason the `count` of files and the names of the `first`; for a record."""
    return {
        reason: {"count": len(files), "first": [file.name for file in files[:SHOWN]]}
        for reason, files in joined(left_out).items()
    }


def require_nothing_left_out(left_out: Mapping[str, Sequence[Path]]) -> None:
    """For --strict.

    Raises:
        UserError: A file is left out.
    """
    if rows := listed(left_out):
        raise UserError(
            f"--strict, but files are left out: {'; '.join(rows)}. Move them elsewhere, or leave out --strict."
        )


def listed(left_out: Mapping[str, Sequence[Path]]) -> list[str]:
    """What is left out, a clause a reason."""
    return clauses(as_record(left_out))


def clauses(record: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """As `listed`, of what `as_record` gives."""
    return [f"{count} {text}" for count, text in _rows(record)]


def used_table(
    used: Mapping[str, int], left_out: Mapping[str, Mapping[str, Any]], kept: Mapping[str, int] | None = None
) -> str:
    """The table that a command ends with.

    Args:
        used: How many files were used, by what they are.
        left_out: What `as_record` gives.
        kept: How many are for something else, such as testing.
    """
    rows = [("used", count, what) for what, count in used.items()]
    rows += [("kept", count, what) for what, count in (kept or {}).items()]
    rows += [("left out", count, text) for count, text in _rows(left_out) or [(0, "files")]]
    width = max(len(str(count)) for _, count, _ in rows)
    return "\n".join(f"{kind:8}  {count:>{width}}  {what}" for kind, count, what in rows)


def _rows(left_out: Mapping[str, Mapping[str, Any]]) -> list[tuple[int, str]]:
    rows = []
    for reason, files in left_out.items():
        more = ", ..." if files["count"] > len(files["first"]) else ""
        rows.append((files["count"], f"{REASONS[reason]} ({', '.join(files['first'])}{more})"))
    return rows
