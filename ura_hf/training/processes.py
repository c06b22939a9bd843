"""The processes of a run: one, or several that `accelerate launch` or `torchrun` started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.extras import needs_extra
from ..model.device import pick_device

if TYPE_CHECKING:
    from accelerate import PartialState


def processes() -> PartialState:
    """This process among those of the run, on the device that `pick_device` picks.

    Raises:
        UserError: accelerate is not installed.
    """
    with needs_extra("train", "training"):
        from accelerate import PartialState
    return PartialState(cpu=pick_device().type == "cpu")


def from_main_process(text: str) -> str:
    """The main process's text, in every process of the run."""
    from accelerate.utils import broadcast_object_list

    return str(broadcast_object_list([text])[0])
