"""The documents: what they run, show, name and link to is true."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import render
from conftest import ROOT
from PIL import Image

from ura_hf.cli import main
from ura_hf.cli.main import build_parser
from ura_hf.data.drawn.parts import demo_image

RUN = ("README.md", "docs/quickstart.md")
"""Every command and Python block of these runs, in order, in a folder of its own."""
NOT_RUN = {
    "make demo": "installs PyTorch and opens a page; tests/demo opens it",
    "make test": "runs these tests",
    "pip install": "changes the environment; tests/package installs the wheel",
    "python app.py": "serves until it is stopped; tests/demo starts it",
}
"""Commands of these documents that are recognised and not executed, by their beginnings, and why."""
READERS_PHOTOS = {"photos": (8, None), "new": (1, "scratch")}
"""What the README takes for granted: folders of the reader's own photos, here drawn rings (number, defect)."""
NUMBER = re.compile(r"(?<!\w)\d+\.\d+(?![\w%])")
TOLERANCE = 0.02  # between a score shown and one computed on another machine

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("weights_card/*.md"))
    if path.name != "CHANGELOG.md"
)
SCRIPTS = re.compile(r"(?:app|(?:benchmarks|tools)/\w+)\.py")
FLAG = re.compile(r"--[a-z][a-z-]*")
PATH = re.compile(r"[\w./-]+/[\w.-]+\.(?:py|json|md|png|safetensors|jinja)")


class Block(NamedTuple):
    """A fenced block: its language, empty for shown output, its text and the line that it starts in."""

    language: str
    text: str
    line: int


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(match[1], match[2], text[: match.start()].count("\n") + 1) for match in found]


def commands(block: Block) -> list[str]:
    """The command lines of a shell block, without comments."""
    return [line for raw in block.text.splitlines() if (line := re.sub(r"\s+#.*", "", raw).strip())]


def prose(document: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)


def code_spans(document: str) -> Iterator[tuple[str, bool]]:
    """Inline code, and every line of shell blocks; whether it is such a line, and so a whole command."""
    yield from ((span, False) for span in re.findall(r"`([^`\n]+)`", prose(document)))
    yield from ((line, True) for block in blocks(document) if block.language == "sh" for line in commands(block))


def run_command(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "uranet", f"{line}: neither a command of ours nor one of NOT_RUN"
    assert main(words[1:]) == 0, line


def same(shown: str, printed: str) -> bool:
    """Whether a document shows what was printed: the same words, and decimal numbers up to TOLERANCE.

    The word ... stands for one or more words. Percentages, which are of a few photos, may be others.
    """
    words = [r"\S.*?" if word == "..." else _pattern(word) for word in shown.split()]
    found = re.fullmatch(r"\s+".join(words), printed.strip(), re.DOTALL)
    numbers = NUMBER.findall(shown)
    return bool(found) and all(
        abs(float(a) - float(b)) <= TOLERANCE for a, b in zip(numbers, found.groups(), strict=True)
    )


def _pattern(word: str) -> str:
    """What a word of shown output matches: its decimal numbers match any, and are groups unless they are percentages."""
    parts = re.split(r"(?<!\w)(\d+\.\d+%?)(?!\w)", word)
    parts[::2] = map(re.escape, parts[::2])
    parts[1::2] = [r"\d+\.\d+%" if part.endswith("%") else r"(\d+\.\d+)" for part in parts[1::2]]
    return "".join(parts)


@pytest.mark.parametrize("document", RUN)
def test_everything_runs_in_order_and_gives_what_is_shown(document, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, (count, defect) in READERS_PHOTOS.items():
        Path(folder).mkdir()
        for index in range(count):
            Image.fromarray(demo_image("ring", index, defect)[0]).save(f"{folder}/{index:03d}.png")
    names: dict[str, Any] = {"__name__": "document"}
    printed = ""
    for block in blocks(document):
        where = f"{document}, line {block.line}"
        assert block.language in ("", "sh", "python", "text", "mermaid"), where
        if block.language == "":
            assert same(block.text, printed), f"{where} shows\n{block.text}\nbut got\n{printed}"
        capsys.readouterr()
        if block.language == "sh":
            for line in commands(block):
                if not line.startswith(tuple(NOT_RUN)):
                    run_command(line)
        elif block.language == "python":
            exec(compile(block.text, where, "exec"), names)
        printed = capsys.readouterr().out
    if document == "README.md":
        assert Path("results/000_heatmap.png").exists() and Path("runs/first/model.safetensors").exists()


def test_shown_numbers_may_differ_a_little_and_words_not():
    assert same("a.png: normal, score 0.45 (256, 256)", "a.png: normal, score 0.46 (256, 256)")
    assert not same("a.png: normal, score 0.45", "a.png: normal, score 0.48")
    assert not same("a.png: normal, score 0.45", "a.png: anomalous, score 0.45")
    assert not same("one\ntwo", "one")
    assert same("...\nafter ... s: 25.0% misses", "a table\nof 2\nafter 85 s: 0.0% misses")
    assert not same("...\nafter ... s: 25.0% misses", "a table\nafter 85 s: no misses")
    assert not same("...\nlast", "last")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_pictures_are_there(document):
    """Relative ones, with the heading that they name."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, heading = target.partition("#")
        place = (ROOT / document).parent / path if path else ROOT / document
        assert place.exists(), f"{document}: {target}"
        assert not heading or heading in headings(place), f"{document}: {target}"


def headings(path: Path) -> set[str]:
    """Anchors as GitHub makes them of headings."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in found}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_flag_exists(document):
    for span, whole in code_spans(document):
        words = span.split()
        if words[0] == "uranet" and len(words) > 1:
            check_uranet(shlex.split(span)[1:], whole, f"{document}: {span}")
        elif words[0] in ("python", "accelerate", "torchrun"):
            check_script(span, f"{document}: {span}")
        elif span.startswith("--"):
            assert set(FLAG.findall(span)) <= known_flags(), f"{document}: {span}"


def check_uranet(words: list[str], whole: bool, where: str) -> None:
    """The command and its flags are there, and the parser takes a whole one."""
    parser, named = build_parser(), []
    while (choices := subcommands(parser)) and words[len(named) : len(named) + 1]:
        name = words[len(named)]
        assert name in choices, f"{where}: no command {name}"
        parser, named = choices[name], [*named, name]
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= flags, where
    if whole:
        build_parser().parse_args(words)


def subcommands(parser: Any) -> dict[str, Any]:
    return next((dict(action.choices) for action in parser._actions if action.nargs == "A..."), {})


def check_script(span: str, where: str) -> None:
    """The script is there, and its flags are written in it or in one whose options it takes."""
    for script in SCRIPTS.findall(span):
        assert (ROOT / script).exists(), where
    assert set(FLAG.findall(span)) <= known_flags() | {"--nproc-per-node", "--num-processes"}, where


def known_flags() -> set[str]:
    """Every option of the commands, the page and the scripts, and those of other programs that the documents name."""
    sources = [ROOT / "app.py", *ROOT.glob("ura_hf/cli/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")]
    return set(re.findall(r'"(--[a-z][a-z-]*)"', "".join(path.read_text() for path in sources))) | {"--help"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_exists(document):
    """Files of this project in inline code; patterns and the reader's own files are no such names."""
    for span, _ in code_spans(document):
        if not PATH.fullmatch(span):
            continue
        own = span.startswith(("ura_hf/", "benchmarks/", "tests/", "tools/", "docs/", "model/", "training/", "gpu/"))
        places = (ROOT / span, ROOT / "ura_hf" / span, ROOT / "docs/results" / span)
        assert not own or "KIND" in span or "DATASET" in span or any(p.exists() for p in places), f"{document}: {span}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_is_python_and_names_exist(document):
    for block in blocks(document):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ura_hf"):
                    module = import_module(str(node.module))
                    assert all(hasattr(module, name.name) for name in node.names), f"{document}, line {block.line}"


def test_rendered_tables_are_those_of_the_results(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["render.py", "--check"])
    assert render.main() == 0, "run python benchmarks/render.py"
