"""The backbone of a run that names none."""

from __future__ import annotations

import logging
from pathlib import Path

from ..model.backbone import SMALL, Backbone
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from .imagenet import load_imagenet
from .processes import from_main_process, processes
from .run_folder import WORK, resume_point, unfinished_config

DEFAULT = URANetConfig.backbone
logger = logging.getLogger(__name__)


def default_backbone(output: Path) -> str:
    """The config's default where its weights can be had, else `uranet-small`, with a warning.

    An unfinished run in `output` keeps what it began with. All processes of a run get the main one's choice.
    """
    return from_main_process(_choose(output) if processes().is_main_process else "")


def _choose(output: Path) -> str:
    if resume_point(output / WORK):
        return SMALL if unfinished_config(output).get("backbone") == SMALL else DEFAULT
    try:
        load_imagenet(Backbone(DEFAULT, (1, 2, 3), 8))
    except UserError as error:
        logger.warning("%s Using %s, which lies in the package.", error, SMALL)
        return SMALL
    return DEFAULT
