"""The parser of all commands, and how they end."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .. import __version__
from ..data.files import is_full
from ..data.threads import wait_briefly
from ..model.errors import UserError
from .benchmark import add_benchmark
from .calibrate import add_calibrate
from .demo_data import add_demo_data
from .evaluate import add_evaluate
from .monitor import add_monitor
from .predict import add_predict
from .sharing import add_sharing
from .train import add_train

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: 0 done, 1 done in part, 2 with one sentence on stderr where its input must be mended, 130 interrupted."""
    wait_briefly()
    options = build_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        with _warnings_on_stderr():
            return options.run(options) or 0
    except UserError as error:
        print(f"uranet: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        hint = "; repeat the same command to go on where it was last saved" if options.resumes else ""
        print(f"uranet: interrupted{hint}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # who read the output has enough; nothing more is written, at the end of Python either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is None and not is_full(error):
            raise
        print(f"uranet: {_what_to_do(error)}", file=sys.stderr)
        return EXIT_USER_ERROR


def _what_to_do(error: OSError) -> str:
    """A sentence on a file that the system refuses."""
    if is_full(error):
        return f"no space left on the disk{f' for {error.filename}' if error.filename else ''}: make room, and repeat."
    name = str(error.filename)
    shown = name if len(name) <= 200 else f"{name[:80]}... ({len(name)} characters)"
    if isinstance(error, PermissionError):
        return f"{shown} may not be read or written by you: change its permissions."
    return f"{shown} can't be used ({error.strerror}): give another path."


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """Show the package's warnings as the other messages of the command."""
    logger, handler = logging.getLogger(__package__.partition(".")[0]), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("uranet: %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="uranet",
        description="Find defects in images after seeing only good ones (URA-Net, arXiv 2603.22840).",
        epilog="'uranet COMMAND --help' explains each command. Exit codes: 0 done, 1 in part, 2 wrong input, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"uranet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_train(commands, _add_command)
    add_evaluate(commands, _add_command)
    add_predict(commands, _add_command)
    add_calibrate(commands, _add_command)
    add_monitor(commands, _add_command)
    add_benchmark(commands, _add_command)
    add_demo_data(commands, _add_command)
    add_sharing(commands, _add_command)
    return parser


def _add_command(
    commands: Any, name: str, run: Any, summary: str, description: str, example: str, resumes: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, resumes=resumes)
    return parser
