"""The detectors that the page can use: bundled, local, from the Hub, or added while it runs; the last used stay in memory."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from ..data.network import TransportError
from ..data.records import EVALUATION, readable_record
from ..hub.card import make_card
from ..hub.download import FILES, checkpoint_folder
from ..hub.load import load_detector
from ..hub.names import bundled, hub_id, local, locate
from ..model.errors import UserError
from ..model.loading import CONFIG_FILE, WEIGHTS_FILE, require_files
from ..model.pipeline_uranet import URANetPipeline

IN_MEMORY = 3  # detectors
NAME = re.compile(r"([\w-][\w.-]{0,95}/)?[\w-][\w.-]{0,95}")  # of a checkpoint: never a path of the server
MAX_DOWNLOAD = 2 * 2**30  # bytes of the weights of a checkpoint on the Hub


class Detectors:
    """Detectors by name, for many threads at once.

    A name is bundled, in the folder URA_HF_CHECKPOINTS, added by `add`, or one on the Hub; never a path, so that nobody on
    the page can name the server's folders.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self.in_memory = in_memory
        self._added: dict[str, Path] = {}
        self._loaded: OrderedDict[str, URANetPipeline] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Names that can be used without asking the Hub: added here, bundled, then local."""
        with self._lock:
            added = list(self._added)
        return list(dict.fromkeys([*added, *bundled(), *local()]))

    def add(self, folder: Path, name: str) -> str:
        """Make the checkpoint in `folder` known as `name`, or as `name-2` and so on where that is taken; returns its name.

        Raises:
            UserError: It is not a complete checkpoint.
        """
        require_files(folder, FILES)
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "checkpoint"
        with self._lock:
            taken = {*self._added, *bundled(), *local()}
            number, free = 1, plain
            while free in taken:
                number += 1
                free = f"{plain}-{number}"
            self._added[free] = folder
        return free

    def folder(self, name: str) -> Path:
        """The folder of a checkpoint; one on the Hub is fetched first and is known by this name from then on.

        Raises:
            UserError: Nothing has this name, it can't be fetched or is too large.
        """
        name = str(name or "").strip()
        with self._lock:
            if name in self._added:
                return self._added[name]
        if name in bundled() or name in local():
            return locate(name)  # type: ignore[return-value]
        if not NAME.fullmatch(name) or Path(name).exists():
            raise UserError(
                f"{name[:100] or 'nothing'} is not the name of a checkpoint: choose one of {self._choices()}."
            )
        _check_download(name)
        folder = checkpoint_folder(name)
        require_files(folder, FILES)
        with self._lock:
            self._added[name] = folder
        return folder

    def get(self, name: str) -> URANetPipeline:
        """The detector of a checkpoint, loaded at most once; of those not used for longest only their files stay.

        On the GPU, where there is one, in half precision.

        Raises:
            UserError: As in `folder`, or the checkpoint is damaged.
        """
        name = str(name or "").strip()
        with self._lock:
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            with self._lock:
                if name in self._loaded:
                    self._loaded.move_to_end(name)
                    return self._loaded[name]
            try:
                detector = load_detector(self.folder(name))
                if not detector.model.config.is_calibrated:
                    raise UserError(f"{name} has no calibrated thresholds, so it gives no verdict: choose another one.")
            except UserError:
                with self._lock:
                    self._loading.pop(name, None)
                raise
            if detector.device.type == "cuda":
                detector.model.to(torch.float16)
            with self._lock:
                self._loaded[name] = detector
                while len(self._loaded) > self.in_memory:
                    self._loaded.popitem(last=False)
        return detector

    def card(self, name: str) -> str:
        """The model card of a checkpoint as Markdown, without its title and its figure.

        Raises:
            UserError: As in `folder`.
        """
        text = make_card(self.folder(name), name).text
        kept = [line for line in text.strip().splitlines() if not line.startswith(("# ", "!["))]
        return "\n".join(kept).strip()

    def describe(self) -> list[dict[str, Any]]:
        """For each of `names`: `name`, `backbone`, `image_size` [pixels], whether `loaded`, AUROCs or None where not measured."""
        described = []
        for name in self.names():
            folder = self.folder(name)
            config, figures = readable_record(folder, CONFIG_FILE), readable_record(folder, EVALUATION)
            with self._lock:
                loaded = name in self._loaded
            described.append(
                {
                    "name": name,
                    "backbone": config.get("backbone"),
                    "image_size": config.get("image_size"),
                    "loaded": loaded,
                    "image_auroc": figures.get("image_auroc"),
                    "pixel_auroc": figures.get("pixel_auroc"),
                }
            )
        return described

    def _choices(self) -> str:
        return ", ".join(self.names())


def _check_download(name: str) -> None:
    """Raise UserError where the weights on the Hub are too large for the page; what can't be asked is left to the download."""
    try:
        size = get_hf_file_metadata(hf_hub_url(hub_id(name), WEIGHTS_FILE)).size or 0
    except (HfHubHTTPError, TransportError, OSError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        return
    if size > MAX_DOWNLOAD:
        raise UserError(
            f"the weights of {name} have {size / 2**30:.1f} GiB, but the page loads at most {MAX_DOWNLOAD / 2**30:.0f} GiB: "
            "run it on your own machine with `uranet predict`."
        )
