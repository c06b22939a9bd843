"""The processes of a run: one, or several that `accelerate launch` or `torchrun` started."""

from __future__ import annotations

from ..data.extras import needs_extra
from ..model.device import pick_device

with needs_extra("train", "training"):
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

__all__ = ["PartialState", "from_main_process", "processes"]


def processes() -> PartialState:
    """This process among those of the run, on the device that `pick_device` picks."""
    return PartialState(cpu=pick_device().type == "cpu")


def from_main_process(text: str) -> str:
    """The main process's text, in every process of the run."""
    return str(broadcast_object_list([text])[0])
