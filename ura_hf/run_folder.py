"""The output folder of a training run: whose it is, and where a killed run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.trainer_utils import get_last_checkpoint

from .errors import UserError

RECORD = "training.json"
WORK = "unfinished"  # folder of the output that holds what a resumed run needs; removed at the end
LAST_WRITTEN = "trainer_state.json"  # of a resume point


def claim_output(output: Path, choices: dict[str, Any], state: PartialState) -> Path:
    """Make the working folder of a run, or check that the one there belongs to a run of the same `choices`; returns it.

    Raises:
        UserError: The folder holds a finished checkpoint or another run, or can't be written.
    """
    ticket = _ticket(output)
    wanted = json.loads(json.dumps(choices, default=str))
    if (output / RECORD).exists():
        shutil.rmtree(output / WORK, ignore_errors=True)  # where the run was killed while it removed that itself
        raise UserError(f"{output} already holds a trained checkpoint: choose another --output or remove it.")
    if resume_point(output / WORK) and _read(ticket) != wanted:
        raise UserError(
            f"{output} holds an unfinished run with other options, images or backbone weights: repeat its command on "
            "the same files to go on, or remove the folder."
        )
    state.wait_for_everyone()
    if state.is_main_process:
        try:
            ticket.parent.mkdir(parents=True, exist_ok=True)
            ticket.write_text(json.dumps(wanted, indent=2))
        except OSError as error:
            raise UserError(f"{output} can't be written ({error.strerror}): choose another --output.") from error
        for folder in ticket.parent.glob("checkpoint-*"):
            if not (folder / LAST_WRITTEN).exists():  # the run was killed while it saved
                shutil.rmtree(folder)
    state.wait_for_everyone()
    return ticket.parent


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
