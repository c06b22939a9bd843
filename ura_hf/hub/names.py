"""Names of checkpoints: of a local folder, a bundled one, one in `URA_HF_CHECKPOINTS`, or a repository on the Hub."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path

from ..data.datasets import facts
from ..data.files import ASSETS
from ..model.errors import UserError

MVTEC = "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile toothbrush transistor wood zipper"
PUBLISHED = (
    *(f"uranet-mvtec-{category}" for category in MVTEC.split()),
    *(f"uranet-btad-{category}" for category in ("01", "02", "03")),
    "uranet-oct2017",
)
"""Names of the checkpoints of the datasets that the paper measures."""
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9]|[._-](?=[A-Za-z0-9]|_)){0,95}"
_NAME, _FULL = re.compile(_PART), re.compile(f"{_PART}/{_PART}")


def namespace() -> str | None:
    """The Hub namespace of bare names, URA_HF_NAMESPACE; None if unset, and bare names are then not looked up on the Hub."""
    return os.environ.get("URA_HF_NAMESPACE") or None


def dataset_key(name: str) -> str | None:
    """The dataset in a checkpoint's name, e.g. ``mvtec`` of uranet-mvtec-bottle; None if it names none."""
    parts = name.removeprefix("uranet-").split("-")
    return parts[0] if name.startswith("uranet-") and parts[0] in facts() else None


def making_command(key: str, category: str | None = None) -> str:
    """The command that trains and measures the checkpoints of a dataset, or that of one of its categories."""
    of = f" --categories {category}" if category and len(facts()[key]["categories"]) > 1 else ""
    return f"uranet benchmark --dataset {key} --root DIR --output runs/{key}{of}"


def bundled() -> list[str]:
    """Names of the checkpoints that the package brings along."""
    return sorted(path.parent.name for path in ASSETS.glob("*/config.json"))


def local() -> list[str]:
    """Names of the checkpoints in the folder URA_HF_CHECKPOINTS, without folders whose names are not valid on the Hub."""
    folder = checkpoints_folder()
    names = sorted(path.parent.name for path in folder.glob("*/config.json")) if folder else []
    return [name for name in names if _NAME.fullmatch(name)]


def local_folder(name: str | Path) -> Path | None:
    """The folder of a checkpoint on this machine: a path, bundled, or in URA_HF_CHECKPOINTS, in this order; else None."""
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not _NAME.fullmatch(str(name)):
        return None
    if str(name) in bundled():
        return ASSETS / str(name)
    return checkpoints_folder() / str(name) if str(name) in local() else None  # type: ignore[operator]


def hub_id(name: str | Path) -> str:
    """The Hub repository of a name: `you/uranet-x` as it is, `uranet-x` in the namespace URA_HF_NAMESPACE.

    Raises:
        UserError: It is a folder that does not exist, or a bare name and URA_HF_NAMESPACE is not set.
    """
    text = str(name)
    if isinstance(name, str) and _FULL.fullmatch(text):
        return text
    if isinstance(name, str) and _NAME.fullmatch(text):
        if (owner := namespace()) is not None:
            return f"{owner}/{text}"
        raise not_found(text, "not asked")
    raise UserError(
        f"{text} is not a checkpoint folder: pass a folder that `uranet train` wrote, a name or NAMESPACE/NAME."
    )


def not_found(name: str, reason: str) -> UserError:
    """The error for a name without a checkpoint: it lists where it was looked for, and similar names."""
    places = ["a local folder", f"bundled ({', '.join(bundled()) or 'none'})"]
    if folder := checkpoints_folder():
        places.append(f"{folder} ({', '.join(local()) or 'none'})")
    hint = ""
    if "/" in name or namespace() is not None:
        places.append(f"the Hub as {hub_id(name)} ({reason})")
    elif name in PUBLISHED:
        command = making_command(str(dataset_key(name)), name.split("-", 2)[-1])
        hint = f" `{command}` trains it, or pass NAMESPACE/NAME of one who published it."
    else:
        hint = " For a repository on the Hub pass NAMESPACE/NAME, or set URA_HF_NAMESPACE."
    near = get_close_matches(name.split("/")[-1], {*bundled(), *local(), *PUBLISHED} - {name}, 3, 0.7)
    hint += f" Did you mean {' or '.join(near)}?" if near else ""
    return UserError(f"no checkpoint {name}; looked for it as {'; '.join(places)}.{hint}")


def checkpoints_folder() -> Path | None:
    value = os.environ.get("URA_HF_CHECKPOINTS")
    return Path(value) if value else None
