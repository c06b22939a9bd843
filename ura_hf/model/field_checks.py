"""What the values of a config's fields must be; each says whether they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .verdicts import is_number


def are_weights(values: Any, names: Collection[str], least: float) -> bool:
    """Numbers of at least `least` for some of the names."""
    known = isinstance(values, Mapping) and set(values) <= set(names)
    return known and all(is_number(value) and value >= least for value in values.values())


def are_standards(values: Any, names: Collection[str]) -> bool:
    """A location and a spread > 0 for some of the names."""
    known = isinstance(values, Mapping) and set(values) <= set(names)
    pairs = known and all(are_numbers(pair, 2) for pair in values.values())
    return pairs and all(spread > 0 for _, spread in values.values())


def are_limits(values: Any) -> bool:
    """Two rising numbers."""
    return are_numbers(values, 2) and values[0] < values[1]


def are_numbers(values: Any, count: int) -> bool:
    """A list of so many numbers."""
    return isinstance(values, list) and len(values) == count and all(map(is_number, values))


def are_names(values: Any, known: Collection[str]) -> bool:
    """A list of some of the known names, none twice."""
    return isinstance(values, list) and len({*map(str, values)} & {*known}) == len(values)
