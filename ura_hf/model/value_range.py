"""Which stored values stand for black and for white, and images on that scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .errors import UserError

FULL_SCALE_16_BIT = 65535.0
_FLOAT_TOLERANCE = 1e-5


class ValueRange(NamedTuple):
    """The values of black and white; where `clips`, what lies beyond them counts as black or white."""

    low: float
    high: float
    clips: bool


def value_range_of(max_value: float | None, value_range: Sequence[float] | None) -> ValueRange | None:
    """The range that `max_value`, white above a black of 0, or `value_range`, black and white, gives; None without both.

    Raises:
        UserError: Both are given, or one is no range.
    """
    if max_value is not None and value_range is not None:
        raise UserError("max_value and value_range say the same in two ways: give one of them.")
    if max_value is not None:
        if not max_value > 0:
            raise UserError(f"max_value must be positive, but got {max_value}; give the value of white, e.g. 4095")
        return ValueRange(0.0, float(max_value), clips=False)
    if value_range is None:
        return None
    numbers = isinstance(value_range, (list, tuple)) and all(isinstance(end, (int, float)) for end in value_range)
    if not (
        numbers and len(value_range) == 2 and all(map(math.isfinite, value_range)) and value_range[0] < value_range[1]
    ):
        raise UserError(
            f"value_range must be two rising numbers, the values of black and white, but got {value_range!r}; "
            "give them, e.g. -20 and 120"
        )
    return ValueRange(float(value_range[0]), float(value_range[1]), clips=True)


def to_unit_range(raw: np.ndarray, given: ValueRange | None, name: str) -> np.ndarray:
    """Samples as float32 in [0, 1], same shape. Samples of one bit or eight keep their full scale, whatever is `given`.

    Raises:
        UserError: The values leave their range, or are no numbers.
    """
    if raw.dtype in (np.bool_, np.uint8):
        return np.divide(raw, 1 if raw.dtype == np.bool_ else 255, dtype=np.float32)
    low, high = raw.min(), raw.max()
    if raw.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{name} must hold finite values, but got NaN or infinite ones; replace them")
    if given is not None and given.clips:
        return _clipped(raw, given, name)
    if raw.dtype.kind == "f" and given is None:
        if low < -_FLOAT_TOLERANCE or high > 1 + _FLOAT_TOLERANCE:
            raise UserError(
                f"{name} holds floating-point values, which must lie in [0, 1], but got [{low:g}, {high:g}]; divide them by "
                "their full scale, or give the values of black and white as value_range (--value-range LOW HIGH)"
            )
        return raw.astype(np.float32).clip(0.0, 1.0)
    if raw.dtype.kind != "f" and raw.dtype.newbyteorder("=") not in (np.uint16, np.int32):
        raise UserError(
            f"{name} must be bool, uint8, uint16 or floating point, but got {raw.dtype}; convert it to one of these, or give "
            "the values of black and white as value_range"
        )
    full_scale = FULL_SCALE_16_BIT if given is None else given.high
    if low < 0 or high > full_scale:
        option = "value_range (--value-range LOW HIGH) to the values of black and white" if low < 0 else ""
        raise UserError(
            f"{name} must hold values in [0, {full_scale:g}], but got [{low:g}, {high:g}]; "
            f"set {option or 'max_value to the value that stands for white'}"
        )
    return np.divide(raw, full_scale, dtype=np.float32)


def _clipped(raw: np.ndarray, given: ValueRange, name: str) -> np.ndarray:
    if raw.dtype.kind not in "iuf":
        raise UserError(f"{name} must hold whole or floating-point numbers, but got {raw.dtype}; convert it")
    if raw.max() < given.low or raw.min() > given.high:
        raise UserError(
            f"{name} holds values in [{raw.min():g}, {raw.max():g}], none of which lies in the value_range "
            f"[{given.low:g}, {given.high:g}]; correct it"
        )
    share = (raw.astype(np.float64) - given.low) / (given.high - given.low)
    return share.clip(0.0, 1.0).astype(np.float32)
