"""The records beside a checkpoint's weights: their names, what they hold, and reading that trusts nothing it finds."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model.errors import UserError
from .files import as_text, write_json

TRAINING, EVALUATION = "training.json", "evaluation.json"
RECORDS = (TRAINING, EVALUATION)
METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "aupro": "AUPRO",
}
"""Metrics of an evaluation by their keys in records, with the names that people read."""
METRIC_KEYS = tuple(METRICS)
MAIN_METRICS = ("image_auroc", "pixel_auroc", "aupro")
"""The metrics of a short list."""

MAX_RECORD_BYTES = 8 * 2**20
MAX_TEXT = 300  # characters of a text that others show
MAX_NUMBER = 2.0**64  # of any number, either sign
ROUNDING = 1e-9  # by which a metric may exceed 1


@dataclass(frozen=True)
class _Number:
    """A number from 0 to `high`, whole or not, or null where `optional`."""

    high: float
    optional: bool = False

    def __str__(self) -> str:
        return f"a number from 0 to {self.high:g}{' or null' if self.optional else ''}"

    def fits(self, value: Any) -> bool:
        return (self.optional and value is None) or (is_number(value) and 0 <= value <= self.high + ROUNDING)


class _Text:
    def __str__(self) -> str:
        return f"a text of at most {MAX_TEXT} characters"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and len(value) <= MAX_TEXT


_SHARE, _COUNT = _Number(1, optional=True), _Number(1e12)
_FIGURES = dict.fromkeys(METRIC_KEYS, _SHARE)
_SHAPES: dict[str, dict[str, Any]] = {
    EVALUATION: {
        **_FIGURES,
        "per_type": {"*": _FIGURES},
        **dict.fromkeys(("n_images", "n_normal", "n_anomalous"), _COUNT),
        **dict.fromkeys(("dataset", "date"), _Text()),
        "protocol": {"aupro_fpr_limit": _Number(1), "network_input": _COUNT},
        "at_threshold": dict.fromkeys(("false_alarm_rate", "miss_rate"), _SHARE),
    },
    TRAINING: {
        "images": {"fitted": _COUNT},
        "options": {"seed": _Number(MAX_NUMBER), "steps": _COUNT},
        "seconds": _COUNT,
        **dict.fromkeys(("hardware", "precision", "date"), _Text()),
        "versions": dict.fromkeys(("python", "torch", "transformers"), _Text()),
    },
}
"""What others rely on: what a value must be, or a dict of it; ``*`` stands for every key."""
_ROOT = r"(?:~|[A-Za-z]:)?[/\\]"  # what absolute paths start with


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_share(value: Any) -> float | None:
    """A metric that a stranger wrote, as a number from 0 to 1; None for anything else."""
    return float(value) if is_number(value) and 0 <= value <= 1 + ROUNDING else None


def read_record(folder: Path, name: str) -> dict[str, Any] | None:
    """A JSON file of a checkpoint, its absolute paths cut to their last part; None where there is none.

    All of its numbers are finite and at most MAX_NUMBER, and all of its text can be encoded. NaN and Infinity are read as null.

    Raises:
        UserError: The file is not such a JSON object or too large, or a record lacks what its kind holds.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise ValueError(f"it is larger than {MAX_RECORD_BYTES / 2**20:.0f} MiB")
        text = path.read_text(encoding="utf-8")
        record = json.loads(text, parse_constant=lambda _: None, parse_int=_whole, parse_float=_finite)
        json.dumps(record, ensure_ascii=False).encode()
        shortened: dict[str, Any] = _shorten(record)
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON ({error}): remove it or make it again.") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} must hold a JSON object, but got {type(record).__name__}: remove it or make it again.")
    if fault := _fault(record, _SHAPES.get(name, {})):
        raise UserError(f"{path} is not what this package writes ({fault}): remove it or make it again.")
    return shortened


def write_record(path: Path, record: dict[str, Any]) -> None:
    """`write_json` of a record, in which names of files that are no text are written in ASCII, so that `read_record` takes it."""
    write_json(path, _encodable(record))


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return as_text(value) if isinstance(value, str) else value


def readable_record(folder: Path, name: str) -> dict[str, Any]:
    """`read_record` for lists of checkpoints, in which a damaged record counts as none; empty then."""
    try:
        return read_record(folder, name) or {}
    except UserError:
        return {}


def _whole(digits: str) -> int:
    _finite(digits)
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if abs(number) > MAX_NUMBER:
        raise ValueError(f"the number {digits[:30]} is too large")
    return number


def _fault(value: Any, shape: Any, place: str = "") -> str | None:
    """The first place of a record that has not its shape, in words."""
    if not isinstance(shape, dict):
        return None if shape.fits(value) else f"{place} must be {shape}"
    if not isinstance(value, dict):
        return f"{place} must be an object"
    for key, inner in shape.items():
        if key != "*" and key not in value:
            return f"no {place}{key}"
        names = list(value) if key == "*" else [key]
        faults = (_fault(value[name], inner, f"{place}{name}.") for name in names)
        if said := next(filter(None, faults), None):
            return said.replace(". must", " must")
    return None


def _shorten(value: Any, name: str = "") -> Any:
    """A record with the paths in it cut: in `command` word by word, elsewhere a value that starts as a path is one."""
    if isinstance(value, dict):
        return {key: _shorten(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    if not isinstance(value, str):
        return value
    if name == "command":
        with contextlib.suppress(ValueError):  # quotes without an end: no command that `shlex.join` wrote
            return shlex.join(_shorten_word(word) for word in shlex.split(value))
    return _shorten_word(value) if re.match(_ROOT, value) else shorten_paths(value)


def _shorten_word(word: str) -> str:
    """One word of a command, which may hold spaces: `/a b/c` or `--data=/a b/c`."""
    return shorten_paths(re.sub(rf"^([^/\\]*=)?{_ROOT}[/\\]*(?:[^/\\]+[/\\]+)*?([^/\\]+)[/\\]*$", r"\1\2", word))


def shorten_paths(text: str) -> str:
    """A text with its absolute paths cut to their last part, since where files lie is nobody else's business."""
    return re.sub(rf"(?<![\w./~-]){_ROOT}(?:[^\s/\\]+[/\\])*([^\s/\\]+)", r"\1", text)
