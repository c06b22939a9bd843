"""What a checkpoint's name stands for."""

from __future__ import annotations

from pathlib import Path

from .backbone import WEIGHTS
from .errors import UserError


def bundled() -> list[str]:
    """Names of the checkpoints that the package brings along."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def resolve(name: str | Path) -> Path:
    """The folder of a checkpoint: a local folder, or the name of a bundled one.

    Raises:
        UserError: It is neither.
    """
    folder = Path(name)
    if not folder.exists() and str(name) in bundled():
        return WEIGHTS / str(name)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{name} is not a checkpoint folder (no config.json): pass a folder that `uranet train` wrote"
            + (f", or a bundled name ({', '.join(bundled())})." if bundled() else ".")
        )
    return folder
