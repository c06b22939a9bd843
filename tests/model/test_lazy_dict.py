"""A dict whose values wait until they are looked at, and that nobody else can tell from another dict."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from ura_hf.model.lazy_dict import LazyDict


@pytest.fixture
def calls():
    return []


@pytest.fixture
def lazy(calls):
    return LazyDict({"a": 1}, {"m": lambda: calls.append("m") or 7})


def test_a_value_is_made_once_and_only_when_it_is_looked_at(lazy, calls):
    assert list(lazy) == list(lazy.keys()) == ["a", "m"] and "m" in lazy and len(lazy) == 2
    assert lazy["a"] == lazy.get("a") == 1 and lazy.get("b", 3) == 3 and not calls
    assert lazy["m"] == lazy.get("m") == lazy["m"] == 7 and calls == ["m"]


@pytest.mark.parametrize(
    "read",
    [
        dict,
        lambda lazy: {**lazy},
        lambda lazy: lazy | {},
        lambda lazy: {} | lazy,
        lambda lazy: lazy.copy(),
        copy.copy,
        copy.deepcopy,
        lambda lazy: pickle.loads(pickle.dumps(lazy)),
        lambda lazy: json.loads(json.dumps(lazy)),
        lambda lazy: dict(lazy.items()),
        lambda lazy: dict(zip(lazy, lazy.values(), strict=True)),
        lambda lazy: eval(repr(lazy)),
    ],
)
def test_all_values_together_are_those_of_a_dict(lazy, read):
    assert read(lazy) == {"a": 1, "m": 7}


def test_it_changes_as_a_dict_does(lazy, calls):
    assert lazy.pop("m") == 7 and lazy.pop("m", None) is None and list(lazy) == ["a"]
    other = LazyDict({}, {"m": lambda: calls.append("other")})
    other["m"] = 3
    other |= {"b": 2}
    assert other == {"m": 3, "b": 2} and other != {"m": 3} and calls == ["m"]
    assert other.popitem() == ("b", 2)
