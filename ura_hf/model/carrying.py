"""Adds what a checkpoint needs to load without the package `ura_hf`: the code of the model, and entries that name it."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .loading import CONFIG_FILE, PROCESSOR_FILE, Hooks

TASK = "image-anomaly-detection"
ENTRIES: dict[str, dict[str, Any]] = {
    CONFIG_FILE: {
        "auto_map": {
            "AutoConfig": "configuration_uranet.URANetConfig",
            "AutoModel": "modeling_uranet.URANetForAnomalyDetection",
        },
        "custom_pipelines": {TASK: {"impl": "pipeline_uranet.URANetPipeline", "pt": ["AutoModel"], "type": "image"}},
    },
    PROCESSOR_FILE: {"auto_map": {"AutoImageProcessor": "image_processing_uranet.URANetImageProcessor"}},
}
"""Entries with which transformers finds the code for `trust_remote_code=True`, by the file that holds them."""


class CarriesCode:
    """Mixin for classes with `push_to_hub`: adds the code, and uploads with `ura_hf.hub` if the package is installed."""

    def _upload_modified_files(
        self, working_dir: str | Path, repo_id: str, files_timestamps: Mapping[str, float], **commit: Any
    ) -> Any:
        """Called by transformers after saving; uploads the files that are newer than their entry in `files_timestamps`."""
        with tempfile.TemporaryDirectory() as staging:
            folder = Path(staging)
            for file in Path(working_dir).iterdir():
                if file.is_file() and file.stat().st_mtime > files_timestamps.get(file.name, -math.inf):
                    shutil.copyfile(file, folder / file.name)
            self._complete(folder)
            carry_code(folder)
            if Hooks.upload is not None:
                return Hooks.upload(folder, repo_id, **commit)
            return super()._upload_modified_files(folder, repo_id, {}, **commit)  # type: ignore[misc]

    def _complete(self, folder: Path) -> None:
        """Add what else belongs to a checkpoint."""


def carry_code(folder: Path) -> None:
    """Copy the modules of the model into a checkpoint folder, and add the entries that name them to its config files."""
    here = Path(__file__).parent
    for module in here.glob("*.py"):
        if module.name != "__init__.py":
            shutil.copyfile(module, folder / module.name)
    for name, entries in ENTRIES.items():
        if (path := folder / name).is_file():
            path.write_text(json.dumps(json.loads(path.read_text()) | entries, indent=2) + "\n")
