"""What a checkpoint's name stands for."""

from __future__ import annotations

from pathlib import Path

from .errors import UserError

WEIGHTS = Path(__file__).parent / "weights"  # what the package brings along


def bundled() -> list[str]:
    """Names of the checkpoints that the package brings along."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def locate(name: str | Path) -> str | Path:
    """The folder of a bundled checkpoint where `name` is one and no local folder hides it; else `name` itself."""
    return WEIGHTS / str(name) if str(name) in bundled() and not Path(name).exists() else name


def resolve(name: str | Path) -> Path:
    """The folder of a checkpoint: a local folder, or the name of a bundled one.

    Raises:
        UserError: It is neither.
    """
    folder = Path(locate(name))
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{name} is not a checkpoint folder (no config.json): pass a folder that `uranet train` wrote"
            + (f", or a bundled name ({', '.join(bundled())})." if bundled() else ".")
        )
    return folder
