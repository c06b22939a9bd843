"""The records beside a checkpoint's weights: their names, what they hold, and reading that trusts nothing it finds."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

from ..model.errors import UserError

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

_NUMBER, _TEXT, _MAYBE = (int, float), (str,), (int, float, type(None))
_FIGURES = dict.fromkeys(METRIC_KEYS, _MAYBE)
_SHAPES: dict[str, dict[str, Any]] = {
    EVALUATION: {
        **_FIGURES,
        "per_type": {"*": _FIGURES},
        **dict.fromkeys(("n_images", "n_normal", "n_anomalous"), _NUMBER),
        **dict.fromkeys(("dataset", "date"), _TEXT),
        "protocol": dict.fromkeys(("aupro_fpr_limit", "network_input"), _NUMBER),
        "at_threshold": dict.fromkeys(("false_alarm_rate", "miss_rate"), _MAYBE),
    },
    TRAINING: {
        "images": dict.fromkeys(("fitted", "held_out"), _NUMBER),
        "options": dict.fromkeys(("seed", "steps"), _NUMBER),
        "seconds": _NUMBER,
        **dict.fromkeys(("hardware", "precision", "date"), _TEXT),
        "versions": dict.fromkeys(("python", "torch", "transformers"), _TEXT),
    },
}
"""What others rely on: the types of a value, or a dict of them; ``*`` stands for every key."""
_ROOT = r"(?:~|[A-Za-z]:)?[/\\]"  # what absolute paths start with


def read_record(folder: Path, name: str) -> dict[str, Any] | None:
    """A JSON file of a checkpoint, its absolute paths cut to their last part; None where there is none.

    Raises:
        UserError: The file is not a JSON object, or a record that lacks what its kind holds.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(), parse_constant=lambda value: None)
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON ({error}): remove it or make it again.") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} must hold a JSON object, but got {type(record).__name__}: remove it or make it again.")
    if fault := _fault(record, _SHAPES.get(name, {})):
        raise UserError(f"{path} is not what this package writes ({fault}): remove it or make it again.")
    shortened: dict[str, Any] = _shorten(record)
    return shortened


def readable_record(folder: Path, name: str) -> dict[str, Any]:
    """`read_record` for lists of checkpoints, in which a damaged record counts as none; empty then."""
    try:
        return read_record(folder, name) or {}
    except UserError:
        return {}


def _fault(value: Any, shape: Any, place: str = "") -> str | None:
    """The first place of a record that has not its shape, in words."""
    if isinstance(shape, tuple):
        fits = isinstance(value, shape) and not isinstance(value, bool)
        return None if fits else f"{place} must be {' or '.join(kind.__name__ for kind in shape)}"
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
