"""A dict some of whose values are made when they are first looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


class _Later:
    """Stands for a value that `make` gives."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class LazyDict(dict[str, Any]):
    """A dict to whose names `later` gives functions that make the values; in every other way an ordinary one.

    A value is made once. What needs all values, such as `items`, a copy or pickling, makes all of them.
    """

    def __init__(self, known: Mapping[str, Any], later: Mapping[str, Callable[[], Any]]) -> None:
        super().__init__(known)
        for name, make in later.items():
            super().__setitem__(name, _Later(make))

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, _Later):
            value = value.make()
            self[name] = value
        return value

    def __iter__(self) -> Iterator[str]:  # without it `dict(result)` and `{**result}` would not call __getitem__
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def _made(self) -> dict[str, Any]:
        """All values in an ordinary dict."""
        return {name: self[name] for name in self}

    def values(self) -> Any:
        return self._made().values()

    def items(self) -> Any:
        return self._made().items()

    def copy(self) -> dict[str, Any]:
        return self._made()

    def pop(self, name: str, *default: Any) -> Any:
        if name in self:
            self[name]
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        self._made()
        return super().popitem()

    def __or__(self, other: Any) -> Any:
        return self._made() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._made()

    def __eq__(self, other: object) -> bool:
        return self._made() == other

    def __repr__(self) -> str:
        return repr(self._made())

    def __reduce__(self) -> Any:
        return dict, (self._made(),)
