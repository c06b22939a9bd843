"""The folder of a checkpoint, fetched from the Hugging Face Hub where it is not here. Only safetensors is ever read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from ..data.network import TransportError
from ..data.records import RECORDS
from ..model.errors import UserError
from ..model.loading import CONFIG_FILE, PROCESSOR_FILE, WEIGHTS_FILE, index_name, refuse_pickles
from .names import hub_id, locate, not_found

FILES = (CONFIG_FILE, PROCESSOR_FILE, WEIGHTS_FILE)


def checkpoint_folder(
    name: str | Path,
    files: Sequence[str] = FILES,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str = "",
) -> Path:
    """The folder of a checkpoint: local, bundled, in URA_HF_CHECKPOINTS, or downloaded; arguments as everywhere in the ecosystem.

    Of a repository on the Hub only `files` are fetched. With the weights come their shards, the configs and the records. Files in
    the cache cost one request, and none with `local_files_only` or HF_HUB_OFFLINE=1. New files are compared with their digests.

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
        offline = local_files_only or constants.HF_HUB_OFFLINE
        folder = _fetch(str(name), hub_id(name), files, subfolder, offline, force_download, arguments)
    return folder / subfolder


def _patterns(files: Sequence[str], prefix: str) -> list[str]:
    """Names of the files to fetch; with the weights their shards, and all that is small."""
    wanted = list(files)
    for weights in [file for file in files if file.endswith(".safetensors")]:
        wanted += [weights.replace(".safetensors", "-?????-of-?????.safetensors"), index_name(weights)]
        wanted += [CONFIG_FILE, PROCESSOR_FILE, *RECORDS]
    return [prefix + file for file in dict.fromkeys(wanted)]


def _fetch(
    name: str, repo: str, files: Sequence[str], subfolder: str, offline: bool, force: bool, arguments: dict[str, Any]
) -> Path:
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    patterns = _patterns(files, prefix)
    cached = _blobs(repo, arguments["cache_dir"])
    with _hub_errors(name, repo, arguments["revision"] or "main", offline):
        folder = Path(
            snapshot_download(
                repo, allow_patterns=patterns, local_files_only=offline, force_download=force, **arguments
            )
        )
        if not offline and WEIGHTS_FILE in files and not any((folder / prefix).glob("*.safetensors")):
            there = HfApi().list_repo_files(repo, revision=arguments["revision"], token=arguments["token"])
            refuse_pickles(repo, [file for file in there if file.startswith(prefix)])
    place = folder / prefix
    for file in (path for path in place.iterdir() if path.is_file()) if place.is_dir() else ():
        if file.resolve().name not in cached:
            _verify(file, repo)
    return folder


@contextmanager
def _hub_errors(name: str, repo: str, revision: str, offline: bool) -> Iterator[None]:
    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            f"{repo} is gated: accept its terms on its page on the Hub, then pass token= or run `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repo} has no revision {revision!r}: name a branch, tag or commit of it.") from error
    except RepositoryNotFoundError as error:
        raise not_found(name, "not there, or private: then pass token= or run `hf auth login`") from error
    except LocalEntryNotFoundError as error:
        why = "not reached: check the network"
        if offline:
            why = f"not asked because of {'HF_HUB_OFFLINE=1' if constants.HF_HUB_OFFLINE else 'local_files_only'}"
        raise not_found(name, f"not in the cache, and {why}") from error
    except HFValidationError as error:
        raise UserError(f"{repo} is not a valid repository name ({error}).") from error
    except (TransportError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        answer = f"the Hub answered {status}" if status else " ".join(str(error).split())[:200]
        raise UserError(
            f"{repo} could not be fetched ({answer}): try again; files that arrived whole are kept."
        ) from error


def _blobs(repo: str, cache_dir: str | Path | None) -> set[str]:
    """Names of the files of a repository that are in the cache."""
    folder = Path(cache_dir or constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _verify(link: Path, repo: str) -> None:
    """Compare a fetched file with its digest, which is its name in the cache; remove a damaged one."""
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
