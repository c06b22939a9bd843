"""No module is longer than a reader wants to hold in mind, and no function longer than a screen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

MAX_MODULE_LINES, MAX_FUNCTION_LINES = 300, 40
MAX_BENCHMARK_FUNCTION_LINES = 60  # scripts, which are read from top to bottom
ALLOWED: set[str] = set()  # "path" of a module or "path:function" that may be longer, each with its reason beside it

MODULES = [*sorted((ROOT / "ura_hf").rglob("*.py")), *sorted((ROOT / "tools").glob("*.py")), ROOT / "app.py"]
MODULES += sorted((ROOT / "benchmarks").glob("*.py"))


def functions(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Names of the functions, and their lines without the docstring."""
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            told = first.end_lineno - first.lineno + 1 if ast.get_docstring(node, clean=False) is not None else 0
            yield node.name, node.end_lineno - node.lineno + 1 - told


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(Path(path).relative_to(ROOT)))
def test_modules_and_functions_are_short(path):
    name, text = str(path.relative_to(ROOT)), path.read_text()
    lengths = {name: len(text.splitlines())} if len(text.splitlines()) > MAX_MODULE_LINES else {}
    found = functions(ast.parse(text))
    most = MAX_BENCHMARK_FUNCTION_LINES if path.parent.name == "benchmarks" else MAX_FUNCTION_LINES
    lengths |= {f"{name}:{function}": lines for function, lines in found if lines > most}
    assert {place: lines for place, lines in lengths.items() if place not in ALLOWED} == {}
