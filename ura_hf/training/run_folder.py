"""The output folder of a training run: whose it is, and where a killed run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from transformers.trainer_utils import get_last_checkpoint

from ..data.records import TRAINING
from ..model.errors import UserError

if TYPE_CHECKING:
    from accelerate import PartialState

WORK = "unfinished"  # folder of the output that holds what a resumed run needs; removed at the end
LAST_WRITTEN = "trainer_state.json"  # of a resume point


@contextmanager
def claim_output(output: Path, choices: dict[str, Any], state: PartialState) -> Iterator[Path]:
    """The working folder of a run, which no other run may use meanwhile; one that is there must be of the same `choices`.

    Raises:
        UserError: The folder holds a finished checkpoint or another run, another run is at work there, or it can't be written.
    """
    ticket = _ticket(output)
    wanted = json.loads(json.dumps(choices, default=str))
    lock = _lock(output) if state.is_main_process else None
    try:
        if (output / TRAINING).exists():
            shutil.rmtree(output / WORK, ignore_errors=True)  # where the run was killed while it removed that itself
            raise UserError(f"{output} already holds a trained checkpoint: choose another --output or remove it.")
        if resume_point(output / WORK) and _read(ticket) != wanted:
            raise UserError(
                f"{output} holds an unfinished run with other options, images or backbone weights: repeat its command on "
                "the same files to go on, or remove the folder."
            )
        state.wait_for_everyone()
        if state.is_main_process:
            ticket.write_text(json.dumps(wanted, indent=2))
            for folder in ticket.parent.glob("checkpoint-*"):
                if not (folder / LAST_WRITTEN).exists():  # the run was killed while it saved
                    shutil.rmtree(folder)
        state.wait_for_everyone()
        yield ticket.parent
    finally:
        if lock is not None:
            lock.release()


def _lock(output: Path) -> FileLock:
    """Hold the output folder; the system frees it when the process dies."""
    lock = FileLock(output / WORK / "run.lock")
    try:
        (output / WORK).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another run is at work in {output}: wait for it, or choose another --output.") from error
    except OSError as error:
        raise UserError(f"{output} can't be written ({error.strerror}): choose another --output.") from error
    return lock


def resume_point(work: Path) -> str | None:
    """The newest complete resume point of a run, None for a new run."""
    return get_last_checkpoint(str(work)) if work.is_dir() else None


def unfinished_config(output: Path) -> dict[str, Any]:
    """What the config of the unfinished run in this folder has other than the defaults; empty where there is none."""
    return (_read(_ticket(output)) or {}).get("config", {})


def _ticket(output: Path) -> Path:
    return output / WORK / "options.json"


def _read(ticket: Path) -> Any:
    try:
        return json.loads(ticket.read_text())
    except (OSError, json.JSONDecodeError):
        return None
