"""Finds the folder of a checkpoint, and downloads it from the Hugging Face Hub if needed. Only safetensors are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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

from ..data.network import TransportError
from ..data.records import RECORDS
from ..model.errors import UserError
from ..model.loading import CONFIG_FILE, PROCESSOR_FILE, WEIGHTS_FILE, refuse_pickles, weight_patterns
from .exported import is_exported
from .names import hub_id, local_folder, not_found

FILES = (CONFIG_FILE, PROCESSOR_FILE, WEIGHTS_FILE)
VERIFIED = ".uranet_verified"
"""File in the cache folder of a repository: lists the blobs whose digests were compared."""


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
    """The folder of a checkpoint: local, bundled, in URA_HF_CHECKPOINTS, or downloaded; arguments as in `huggingface_hub`.

    Only `files` are downloaded; with weights come their shards, the configs and the records. If all files are in the cache, the
    Hub gets one request, and none with `local_files_only` or HF_HUB_OFFLINE=1. Every file is compared with its digest once.

    Raises:
        UserError: There is no checkpoint of this name, it can't be fetched, or a file is damaged.
    """
    if Path(subfolder).is_absolute() or ".." in Path(subfolder).parts:
        raise UserError(f"subfolder must be a path inside the checkpoint, but got {subfolder!r}.")
    if not str(name).strip():
        raise UserError("the name of a checkpoint is empty: pass a folder or a name.")
    _refuse_file(Path(name))
    folder = local_folder(name)
    if folder is None:
        arguments = {"revision": revision, "token": token, "cache_dir": cache_dir}
        offline = local_files_only or constants.HF_HUB_OFFLINE
        folder = _fetch(str(name), hub_id(name), files, subfolder, offline, force_download, arguments)
    return folder / subfolder


def _refuse_file(path: Path) -> None:
    """Raise UserError if a file was given in place of its folder."""
    if not path.is_file():
        return
    hint = "pass the folder that `uranet train` wrote"
    if is_exported(path):
        hint = "this needs the checkpoint that it was exported from; predict, evaluate and monitor take the file, too"
    elif (path.parent / CONFIG_FILE).is_file():
        hint = f"pass its folder, {path.parent}"
    raise UserError(f"{path} is a file, but a checkpoint is a folder: {hint}.")


def _patterns(files: Sequence[str], prefix: str) -> list[str]:
    """Names of the files to fetch; with the weights their shards, and all that is small."""
    wanted = list(files)
    for weights in [file for file in files if file.endswith(".safetensors")]:
        wanted += [*weight_patterns(weights), CONFIG_FILE, PROCESSOR_FILE, *RECORDS]
    return [prefix + file for file in dict.fromkeys(wanted)]


def _fetch(
    name: str, repo: str, files: Sequence[str], subfolder: str, offline: bool, force: bool, arguments: dict[str, Any]
) -> Path:
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    patterns = _patterns(files, prefix)
    with fetch_errors(name, repo, arguments["revision"] or "main", offline):
        folder = Path(
            snapshot_download(
                repo, allow_patterns=patterns, local_files_only=offline, force_download=force, **arguments
            )
        )
        wants_weights = any(file.endswith(".safetensors") for file in files)
        if not offline and wants_weights and not any((folder / prefix).glob("*.safetensors")):
            there = HfApi().list_repo_files(repo, revision=arguments["revision"], token=arguments["token"])
            refuse_pickles(repo, [file for file in there if file.startswith(prefix)])
    place = folder / prefix
    fetched = {file for pattern in _patterns(files, "") for file in place.glob(pattern) if file.is_file()}
    _verify(sorted(fetched), folder.parent.parent / VERIFIED, repo)
    return folder


@contextmanager
def fetch_errors(name: str, repo: str, revision: str, offline: bool) -> Iterator[None]:
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


def _verify(links: Sequence[Path], record: Path, repo: str) -> None:
    """Compare fetched files with their digests, which are the names of their blobs in the cache; remove damaged ones.

    `record` lists the blobs that were compared before, with their times; they are not read again.
    """
    known = set(record.read_text().splitlines()) if record.is_file() else set()
    damaged, whole = [], []
    for link in links:
        blob = link.resolve()
        if blob.parent.name != "blobs":
            continue  # a cache without links (Windows) carries no digest
        line = f"{blob.name} {blob.stat().st_mtime_ns}"
        if line in known:
            continue
        if _is_whole(blob):
            whole.append(line)
        else:
            blob.unlink(missing_ok=True)
            link.unlink(missing_ok=True)
            damaged.append(link.name)
    with suppress(OSError), record.open("a") as file:  # a cache that can only be read is compared every time
        file.writelines(f"{line}\n" for line in whole)
    if damaged:
        raise UserError(
            f"{', '.join(damaged)} of {repo} arrived damaged and was removed from the cache: load it again."
        )


def _is_whole(blob: Path) -> bool:
    """Whether a file has the digest that is its name: SHA-256 of a large file, that of git of a small one."""
    digest = hashlib.sha256() if len(blob.name) == 64 else hashlib.sha1(f"blob {blob.stat().st_size}\0".encode())
    with blob.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == blob.name
