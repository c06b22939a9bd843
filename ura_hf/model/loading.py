"""The files of a checkpoint, and two hooks by which the package `ura_hf` finds names and uploads.

Without the package, when this file came with a checkpoint, transformers finds names itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError

CONFIG_FILE = "config.json"
PROCESSOR_FILE = "preprocessor_config.json"
WEIGHTS_FILE = "model.safetensors"
HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class Hooks:
    """What `ura_hf.hub` fills in; None without it."""

    find: Callable[..., Path] | None = None
    """find(name, files, **hub) -> the local folder of a checkpoint that holds at least `files`."""
    upload: Callable[..., Any] | None = None
    """upload(folder, repo_id, **commit) adds the model card to a folder and uploads it in one commit."""


def what_to_load(name: str | Path, files: Sequence[str], kwargs: dict[str, Any]) -> str | Path:
    """The folder that `from_pretrained` of transformers loads; without the package, a name that transformers finds itself.

    If a folder is returned, the Hub's arguments are removed from `kwargs`.

    Raises:
        UserError: There is a folder, but it lacks one of `files`.
    """
    if Hooks.find is not None:
        kwargs.pop("_commit_hash", None)
        hub = {key: kwargs.pop(key) for key in HUB_ARGUMENTS if kwargs.get(key) is not None}
        folder = Hooks.find(name, files, **hub)
    elif Path(name).is_dir():
        folder = Path(name) / (kwargs.pop("subfolder", None) or "")
    else:
        return name
    require_files(folder, files)
    return folder


def weights_name(variant: str | None = None) -> str:
    """The file of the weights: model.safetensors, or model.fp16.safetensors of the variant ``fp16``."""
    return f"model.{variant}.safetensors" if variant else WEIGHTS_FILE


def index_name(weights: str) -> str:
    """The index file of sharded weights: model.safetensors.index.json, or model.safetensors.index.fp16.json of ``fp16``."""
    variant = weights.removeprefix("model").removesuffix(".safetensors")
    return f"model.safetensors.index{variant}.json"


def weight_patterns(weights: str) -> tuple[str, str, str]:
    """Patterns of the files that can hold these weights: the whole file, its shards, and their index."""
    return weights, weights.replace(".safetensors", "-?????-of-?????.safetensors"), index_name(weights)


def require_files(folder: Path, wanted: Sequence[str]) -> None:
    """Raise UserError unless a checkpoint folder holds these files; weights may be sharded."""
    absent = [
        file
        for file in wanted
        if not (weight_files(folder, file) if file.endswith(".safetensors") else (folder / file).is_file())
    ]
    if absent == [*wanted]:
        raise UserError(
            f"{folder} is not a checkpoint folder (no {wanted[0]}): pass what `uranet train` wrote, or a name."
        )
    if any(file.endswith(".safetensors") for file in absent):
        refuse_pickles(str(folder), [path.name for path in folder.iterdir()])
    if absent:
        raise UserError(f"{folder} lacks {', '.join(absent)}: fetch or train the checkpoint again.")


def refuse_pickles(place: str, files: Sequence[str]) -> None:
    """Raise UserError if one of these files is a pickle file, which could run code."""
    if pickles := [file for file in files if file.endswith(PICKLES)]:
        raise UserError(
            f"{place} holds its weights only as a pickle file ({pickles[0]}), which could run code and is never read: "
            f"ask its author for {WEIGHTS_FILE}."
        )


def weight_files(folder: Path, weights: str = WEIGHTS_FILE) -> list[Path]:
    """The files of a checkpoint's weights: the file named `weights`, else its shards, else none.

    Raises:
        UserError: The index of the shards is damaged, or a shard is missing.
    """
    whole, index = folder / weights, folder / index_name(weights)
    if whole.is_file():
        return [whole]
    if not index.is_file():
        return []
    try:
        names = sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is not the index of a sharded checkpoint: fetch it again.") from error
    if absent := [name for name in names if Path(name).name != name or not (folder / name).is_file()]:
        raise UserError(f"{folder} lacks {', '.join(absent)}, which {index.name} names: fetch the checkpoint again.")
    return [folder / name for name in names]
