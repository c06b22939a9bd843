"""The detectors that the page can use: bundled, local, from the Hub, or added while it runs; the last used stay in memory."""

from __future__ import annotations

import re
import shutil
import threading
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from ..data.records import EVALUATION, read_record, readable_record
from ..hub.card import make_card
from ..hub.download import FILES
from ..hub.load import load_detector, read_part
from ..hub.names import bundled, local, local_folder
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from ..model.loading import CONFIG_FILE, require_files
from ..model.pipeline_uranet import URANetPipeline
from .fetched import Fetched

IN_MEMORY = 3  # detectors
NAME = re.compile(r"([\w-][\w.-]{0,95}/)?[\w-][\w.-]{0,95}")  # of a checkpoint: never a path of the server
KEEP_SECONDS = 3600  # what visitors bring, and what is made of it, lives this long on the server
MAX_TAUGHT = 30  # taught checkpoints on the disk of a public page
MAX_NAME = 60  # characters of the name of a taught checkpoint

Key = tuple[str | None, str]


@dataclass(eq=False)
class Added:
    """A checkpoint that was added while the page runs."""

    folder: Path
    taught: bool
    """Whether a visitor of a public page added it: its folder is the page's to remove."""
    leaving: threading.Timer | None = None
    """Removes it after a while; None if it stays."""


def clean_name(text: str) -> str:
    """A checkpoint's name of what somebody typed: letters and digits of any script, dot, underscore and hyphen; maybe empty."""
    composed = unicodedata.normalize("NFC", text)
    kept = "".join(sign if unicodedata.category(sign)[0] in "LMN" or sign in "._-" else " " for sign in composed)
    return "-".join(kept.split()).strip("-._")[:MAX_NAME]


class Detectors:
    """Detectors by name, for many threads at once.

    A name is bundled, in the folder URA_HF_CHECKPOINTS, added by `add`, or one on the Hub; never a path, so that nobody on
    the page can name the server's folders.

    With `public` the visitors are strangers: checkpoints of the Hub are fetched without a token and fill a bounded part of the
    disk (`Fetched`), and only the last MAX_TAUGHT of those that visitors add stay. Unless `shared`, each of these is known only
    in the session that added it, and leaves after `keep_seconds`.
    """

    def __init__(
        self,
        in_memory: int = IN_MEMORY,
        public: bool = False,
        shared: bool = False,
        keep_seconds: float = KEEP_SECONDS,
        hub: Fetched | None = None,
    ) -> None:
        self.in_memory, self.public, self.keep_seconds = in_memory, public, keep_seconds
        self.private = public and not shared
        """Whether what a visitor adds is known in that session alone."""
        self._hub = hub or Fetched(public)
        self._added: dict[Key, Added] = {}  # by session, None for everyone's, and name; the oldest first
        self._loaded: OrderedDict[Path, URANetPipeline] = OrderedDict()
        self._loading: WeakValueDictionary[Path, threading.Lock] = (
            WeakValueDictionary()
        )  # while somebody holds or awaits one
        self._lock = threading.Lock()

    def names(self, session: str | None = None) -> list[str]:
        """Names that can be used in a session without asking the Hub: added here, fetched before, bundled, then local."""
        return list(self._folders(session))

    def add(self, folder: Path, name: str, session: str | None = None) -> str:
        """Make the checkpoint in `folder` known as `name`, or as `name-2` and so on where that is taken; returns its name.

        Without a session it is everyone's and stays. What is added with a session on a public page may be removed, from the disk
        too (see the class).

        Raises:
            UserError: It is not a complete checkpoint.
        """
        require_files(folder, FILES)
        owner = session if self.private else None
        wanted = clean_name(name) or "checkpoint"
        added = Added(folder, taught=self.public and session is not None)
        with self._lock:
            taken = {known for session, known in self._added if session in (None, owner)}
            taken |= {*bundled(), *local(), *self._hub.folders()}
            number, free = 1, wanted
            while free in taken:
                number += 1
                free = f"{wanted}-{number}"
            self._added[owner, free] = added
            if owner is not None:
                added.leaving = threading.Timer(self.keep_seconds, self._forget, [(owner, free), added])
                added.leaving.daemon = True
                added.leaving.start()
            taught = [item for item in self._added.items() if item[1].taught]
        for key, old in taught[:-MAX_TAUGHT]:
            self._forget(key, old)
        return free

    def folder(self, name: str, session: str | None = None) -> Path:
        """The folder of a checkpoint; one on the Hub is fetched first and is known by this name from then on.

        Raises:
            UserError: Nothing has this name in the session, it can't be fetched or is too large.
        """
        name = str(name or "").strip()
        with self._lock:
            for owner in (session, None):
                if (owner, name) in self._added:
                    return self._added[owner, name].folder
        if name in bundled() or name in local():
            return local_folder(name)  # type: ignore[return-value]
        if not NAME.fullmatch(name) or Path(name).exists():
            known = ", ".join(self.names(session))
            raise UserError(f"{name[:100] or 'nothing'} is not the name of a checkpoint: choose one of {known}.")
        return self._hub.folder(name)

    def get(self, name: str, session: str | None = None) -> URANetPipeline:
        """The detector of a checkpoint, loaded at most once; of those not used for longest only their files stay.

        On the GPU, where there is one, in half precision.

        Raises:
            UserError: As in `folder`, or the checkpoint is damaged.
        """
        folder = self.folder(name, session)
        with self._lock:
            loading = self._loading.setdefault(folder, threading.Lock())
        with loading:
            with self._lock:
                if folder in self._loaded:
                    self._loaded.move_to_end(folder)
                    return self._loaded[folder]
            detector = load_detector(folder)
            if not detector.model.config.is_calibrated:
                raise UserError(f"{name} has no calibrated thresholds, so it gives no verdict: choose another one.")
            if detector.device.type == "cuda":
                detector.model.to(torch.float16)
            with self._lock:
                self._loaded[folder] = detector
                while len(self._loaded) > self.in_memory:
                    self._loaded.popitem(last=False)
        return detector

    def card(self, name: str, session: str | None = None) -> str:
        """The model card of a checkpoint as Markdown, without its title, its figure and what damaged records would tell.

        Raises:
            UserError: As in `folder`.
        """
        text = make_card(self.folder(name, session), name, read=readable_record).text
        kept = [line for line in text.strip().splitlines() if not line.startswith(("# ", "!["))]
        return "\n".join(kept).strip()

    def describe(self, session: str | None = None) -> list[dict[str, Any]]:
        """For each of `names`: `name`, `backbone`, `image_size` [pixels], `loaded`, AUROCs; None for what is not known."""
        described = []
        for name, folder in self._folders(session).items():
            config, figures = read_config(folder), readable_record(folder, EVALUATION)
            with self._lock:
                loaded = folder in self._loaded
            described.append(
                {
                    "name": name,
                    "backbone": config.backbone if config else None,
                    "image_size": config.image_size if config else None,
                    "loaded": loaded,
                    "image_auroc": figures.get("image_auroc"),
                    "pixel_auroc": figures.get("pixel_auroc"),
                }
            )
        return described

    def _folders(self, session: str | None) -> dict[str, Path]:
        """The folders of `names`."""
        with self._lock:
            folders = {name: added.folder for (owner, name), added in self._added.items() if owner in (None, session)}
        here = {name: folder for name in (*bundled(), *local()) if (folder := local_folder(name)) is not None}
        for name, folder in (*self._hub.folders().items(), *here.items()):
            folders.setdefault(name, folder)
        return folders

    def _forget(self, key: Key, added: Added) -> None:
        """Remove a taught checkpoint, from the disk too, unless it has left already."""
        with self._lock:
            if self._added.get(key) is not added:
                return
            del self._added[key]
            self._loaded.pop(added.folder, None)
        if added.leaving is not None:
            added.leaving.cancel()
        shutil.rmtree(added.folder, ignore_errors=True)


def read_config(folder: Path) -> URANetConfig | None:
    """The config of a checkpoint, None if it does not load."""
    try:
        if read_record(folder, CONFIG_FILE) is None:
            return None
        config: URANetConfig = read_part(URANetConfig, folder, CONFIG_FILE)
    except UserError:
        return None
    return config
