"""Names of folders and labels: which mean good parts, which defective ones, in any letter case."""

from __future__ import annotations

import re
from pathlib import Path

from ..folder import subfolders
from ..samples import GOOD

GOOD_WORDS = (GOOD, "ok", "normal", "pass", "okay", "passed", "io", "nominal", "nodefect", "nondefective", "defectfree")
"""Without signs between letters: `defect-free` counts as defectfree."""
BAD_WORDS = (
    *("bad", "ng", "nok", "notok", "ko", "nio", "fail", "failed", "faulty", "reject", "rejected", "ungood"),
    *("abnormal", "anomaly", "anomalies", "anomalous", "defect", "defects", "defective"),
)
VALIDATION_WORDS = ("validation", "valid", "val")
ANOMALOUS = "anomalous"  # kind of an image whose label names no defect


def letters(name: str) -> str:
    """A name in lower case, without what is neither a letter nor a digit."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def means_good(name: str) -> bool:
    """Whether a folder or label of this name is of good parts."""
    return letters(name) in GOOD_WORDS


def means_bad(name: str) -> bool:
    """Whether a folder of this name is of defective parts; other names may be types of defects, or anything else."""
    return letters(name) in BAD_WORDS


def child(folder: Path, *names: str) -> Path | None:
    """The subfolder of the first of these names that there is, in any letter case."""
    inside = {inner.name.lower(): inner for inner in subfolders(folder)} if folder.is_dir() else {}
    return next((inside[name] for name in names if name in inside), None)


def good_folder(folder: Path) -> Path | None:
    """The subfolder of good images, by the order of `GOOD_WORDS`."""
    inside = {letters(inner.name): inner for inner in subfolders(folder)} if folder.is_dir() else {}
    return next((inside[word] for word in GOOD_WORDS if word in inside), None)
