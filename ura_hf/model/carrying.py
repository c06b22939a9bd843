"""What a checkpoint folder needs to be loaded without the package `ura_hf`: this code, and entries that name it."""

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
"""Entries by which transformers finds the code with `trust_remote_code=True`, by the file that they belong into."""


class CarriesCode:
    """Mixin of what transformers pushes to the Hub: the code goes along, and the package `ura_hf` does the upload where it is."""

    def _upload_modified_files(
        self, working_dir: str | Path, repo_id: str, files_timestamps: Mapping[str, float], **commit: Any
    ) -> Any:
        """Called by transformers once it saved; files that were in `working_dir` before, at these times, stay out."""
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
    """Copy this code into a checkpoint folder and enter it in the config files that are there."""
    here = Path(__file__).parent
    for module in here.glob("*.py"):
        if module.name != "__init__.py":
            shutil.copyfile(module, folder / module.name)
    for name, entries in ENTRIES.items():
        if (path := folder / name).is_file():
            path.write_text(json.dumps(json.loads(path.read_text()) | entries, indent=2) + "\n")
