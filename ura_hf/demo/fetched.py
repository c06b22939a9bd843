"""Checkpoints that visitors of the page name on the Hub: fetched when first asked for, on a public page within bounds."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from huggingface_hub import HfApi, constants, scan_cache_dir
from huggingface_hub.file_download import repo_folder_name

from ..data.records import MAX_RECORD_BYTES
from ..hub.download import FILES, checkpoint_folder, fetch_errors
from ..hub.names import hub_id
from ..model.errors import UserError
from ..model.loading import require_files

GIB = 2**30
MAX_DOWNLOAD = 2 * GIB  # bytes of the files of one checkpoint
MAX_KEPT, MAX_KEPT_BYTES = 30, 8 * GIB  # checkpoints that a public page keeps on its disk


class Fetched:
    """Folders of checkpoints on the Hub, by name.

    Without `public` they lie in the ordinary cache of Hugging Face. With it they lie in a folder of the page's own, which goes
    when the page stops; those used least recently leave as soon as there are more than `kept`, or `kept_bytes` on the disk.
    The Hub is then asked without a token, so that no visitor reads what only the page's owner may.
    """

    def __init__(self, public: bool = False, kept: int = MAX_KEPT, kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self.kept, self.kept_bytes = kept, kept_bytes
        self.cache: Path | None = None
        if public:
            self.cache = Path(tempfile.mkdtemp(prefix="uranet-hub-"))
            atexit.register(shutil.rmtree, self.cache, ignore_errors=True)
        self._token = False if public else None
        self._folders: OrderedDict[str, Path] = OrderedDict()  # used least recently first
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def folders(self) -> dict[str, Path]:
        """What is here by name, used last first."""
        with self._lock:
            return dict(reversed(self._folders.items()))

    def folder(self, name: str) -> Path:
        """The folder of a checkpoint, fetched unless it is here; one is fetched at a time.

        Raises:
            UserError: The Hub has no checkpoint of this name, it can't be fetched or is too large.
        """
        if (known := self._known(name)) is not None:
            return known
        with self._turn:
            if (known := self._known(name)) is not None:
                return known
            folder = self._fetch(name)
            with self._lock:
                self._folders[name] = folder
        return folder

    def _known(self, name: str) -> Path | None:
        with self._lock:
            if (folder := self._folders.get(name)) is None or not folder.is_dir():
                return None
            self._folders.move_to_end(name)
            return folder

    def _fetch(self, name: str) -> Path:
        repo = hub_id(name)
        revision, size = self._measure(name, repo)
        if size > MAX_DOWNLOAD:
            raise UserError(
                f"the files of {name} have {size / GIB:.1f} GiB, but the page loads at most {MAX_DOWNLOAD / GIB:.0f} GiB: "
                "run it on your own machine with `uranet predict`."
            )
        if self.cache is None:
            folder = checkpoint_folder(name)
            require_files(folder, FILES)
            return folder
        self._make_room(size)
        try:
            folder = checkpoint_folder(name, revision=revision, token=self._token, cache_dir=self.cache)
            require_files(folder, FILES)
        except UserError:
            shutil.rmtree(self.cache / repo_folder_name(repo_id=repo, repo_type="model"), ignore_errors=True)
            raise
        return folder

    def _measure(self, name: str, repo: str) -> tuple[str | None, int]:
        """Commit and bytes of a repository's files.

        None and 0 if the Hub doesn't tell: offline, and on a page that is not public, where the download says why.

        Raises:
            UserError: A JSON file is too large, or the page is public and the Hub doesn't tell the size.
        """
        if constants.HF_HUB_OFFLINE:
            return None, 0
        try:
            with fetch_errors(name, repo, "main", offline=False):
                info = HfApi().model_info(repo, files_metadata=True, token=self._token)
        except UserError:
            if self.cache is not None:
                raise
            return None, 0
        sizes = {file.rfilename: file.size for file in info.siblings or []}
        sizes = {file: size for file, size in sizes.items() if file.endswith((".json", ".safetensors"))}
        if self.cache is not None and not all(isinstance(size, int) for size in sizes.values()):
            raise UserError(f"the Hub does not tell how large the files of {name} are, so the page does not load it.")
        if large := [file for file, size in sizes.items() if file.endswith(".json") and (size or 0) > MAX_RECORD_BYTES]:
            raise UserError(
                f"{large[0]} of {name} is larger than {MAX_RECORD_BYTES / 2**20:.0f} MiB: it is no checkpoint."
            )
        return info.sha, sum(size or 0 for size in sizes.values())

    def _make_room(self, coming: int) -> None:
        """Let those leave that were used least recently, until one more checkpoint of `coming` bytes fits."""
        assert self.cache is not None
        self.cache.mkdir(exist_ok=True)  # where the system removed what it took for old
        cache = scan_cache_dir(self.cache)
        with self._lock:
            used = [hub_id(name) for name in self._folders]
            repos = sorted(cache.repos, key=lambda repo: used.index(repo.repo_id) if repo.repo_id in used else -1)
            size = cache.size_on_disk
            while repos and (len(repos) >= self.kept or size + coming > self.kept_bytes):
                gone = repos.pop(0)
                cache.delete_revisions(*(revision.commit_hash for revision in gone.revisions)).execute()
                size -= gone.size_on_disk
                for name in [name for name in self._folders if hub_id(name) == gone.repo_id]:
                    del self._folders[name]
