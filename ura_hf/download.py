"""The folder of a checkpoint, fetched from the Hugging Face Hub where it is not here. Only safetensors is ever read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .errors import UserError
from .names import hub_id, locate, not_found

WEIGHTS_FILE = "model.safetensors"
FILES = ("config.json", "preprocessor_config.json", WEIGHTS_FILE)
EVALUATION = "evaluation.json"
TRAINING = "training.json"
RECORDS = (TRAINING, EVALUATION)
HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder")
TransportError: type[Exception] = next(c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")  # type: ignore[assignment]
"""What the client's HTTP library raises where nothing answers; the library differs between versions of huggingface_hub."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def split_hub_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments of `checkpoint_folder` out of those of a `from_pretrained`."""
    kwargs.pop("_commit_hash", None)
    return {name: kwargs.pop(name) for name in HUB_ARGUMENTS if kwargs.get(name) is not None}


def checkpoint_folder(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str = "",
) -> Path:
    """The folder of a checkpoint: local, bundled, in URA_HF_CHECKPOINTS, or downloaded; arguments as everywhere in the ecosystem.

    What is in the cache is asked for once at the Hub, and not at all with `local_files_only` or HF_HUB_OFFLINE=1.

    Raises:
        UserError: Nothing there has this name, it may not be read, or a file is damaged.
    """
    if Path(subfolder).is_absolute() or ".." in Path(subfolder).parts:
        raise UserError(f"subfolder must be a path inside the checkpoint, but got {subfolder!r}.")
    if not str(name).strip():
        raise UserError("the name of a checkpoint is empty: pass a folder or a name.")
    folder = locate(name)
    if folder is None:
        arguments = {"revision": revision, "token": token, "cache_dir": cache_dir}
        folder = _fetch(str(name), hub_id(name), subfolder, local_files_only, force_download, arguments)
    return folder / subfolder


def require_files(folder: Path, wanted: tuple[str, ...] = FILES) -> None:
    """Raise UserError unless a checkpoint folder holds these files."""
    absent = [file for file in wanted if not (folder / file).is_file()]
    if absent == [*wanted]:
        raise UserError(
            f"{folder} is not a checkpoint folder (no {wanted[0]}): pass what `uranet train` wrote, or a name."
        )
    if WEIGHTS_FILE in absent:
        _refuse_pickles(str(folder), [path.name for path in folder.iterdir()])
    if absent:
        raise UserError(f"{folder} lacks {', '.join(absent)}: fetch or train the checkpoint again.")


def _refuse_pickles(place: str, files: list[str]) -> None:
    if pickles := [file for file in files if file.endswith(PICKLES)]:
        raise UserError(
            f"{place} holds its weights only as a pickle file ({pickles[0]}), which could run code and is never read: "
            f"ask its author for {WEIGHTS_FILE}."
        )


def _fetch(name: str, repo: str, subfolder: str, offline: bool, force: bool, arguments: dict[str, Any]) -> Path:
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    patterns = [prefix + file for file in (*FILES, *RECORDS)]
    revision, token = arguments["revision"] or "main", arguments["token"]
    try:
        folder = Path(
            snapshot_download(
                repo, allow_patterns=patterns, local_files_only=offline, force_download=force, **arguments
            )
        )
        if not offline and not (folder / prefix / WEIGHTS_FILE).exists() and (folder / prefix / "config.json").exists():
            files = HfApi().list_repo_files(repo, revision=arguments["revision"], token=token)
            _refuse_pickles(repo, [file for file in files if file.startswith(prefix)])
    except GatedRepoError as error:
        raise UserError(
            f"{repo} is gated: accept its terms on its page on the Hub, then pass token= or run `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repo} has no revision {revision!r}: name a branch, tag or commit of it.") from error
    except RepositoryNotFoundError as error:
        raise not_found(name, "not there, or private: then pass token= or run `hf auth login`") from error
    except LocalEntryNotFoundError as error:
        raise not_found(name, "not in the cache, and not asked or not reached") from error
    except HFValidationError as error:
        raise UserError(f"{repo} is not a valid repository name ({error}).") from error
    except (TransportError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        answer = f"the Hub answered {status}" if status else " ".join(str(error).split())[:200]
        raise UserError(
            f"{repo} could not be fetched ({answer}): try again; files that arrived whole are kept."
        ) from error
    for file in patterns:
        _verify(folder / file, repo)
    return folder


def _verify(link: Path, repo: str) -> None:
    """Compare a cached file with its digest, which is its name there; remove a damaged one, so that the next load fetches it."""
    blob = link.resolve()
    if not link.exists() or blob.parent.name != "blobs":
        return  # a cache without links (Windows) carries no digest
    digest = hashlib.sha256() if len(blob.name) == 64 else hashlib.sha1(f"blob {blob.stat().st_size}\0".encode())
    with blob.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != blob.name:
        blob.unlink()
        link.unlink()
        raise UserError(f"{link.name} of {repo} arrived damaged and was removed from the cache: load it again.")
