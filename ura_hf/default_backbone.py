"""The backbone of a run that names none."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from .backbone import SMALL, Backbone
from .configuration_uranet import URANetConfig
from .errors import UserError
from .run_folder import WORK, resume_point, unfinished_config

DEFAULT: str = inspect.signature(URANetConfig).parameters["backbone"].default


def default_backbone(output: Path) -> str:
    """The config's default where its weights can be had, else `uranet-small`, with one line on stderr.

    An unfinished run in `output` keeps what it began with. All processes of a run get the main one's choice.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    choice = [_choose(output) if state.is_main_process else ""]
    return str(broadcast_object_list(choice)[0])


def _choose(output: Path) -> str:
    if resume_point(output / WORK):
        return SMALL if unfinished_config(output).get("backbone") == SMALL else DEFAULT
    try:
        Backbone(DEFAULT, (1, 2, 3), 8).load_imagenet()
    except UserError as error:
        print(f"uranet: {error} Using {SMALL}, which lies in the package.", file=sys.stderr)
        return SMALL
    return DEFAULT
