"""Where a detector runs."""

from __future__ import annotations

import torch

from .errors import UserError


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device of this name, such as ``cpu`` or ``cuda:1``; None: the accelerator that is available, cuda, else mps, else cpu.

    Raises:
        UserError: There is no such device here.
    """
    if name is not None:
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"device must be one that torch has here, such as cpu, but got {name!r} ({reason})."
            ) from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
