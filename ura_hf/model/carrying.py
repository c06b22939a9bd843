"""What a checkpoint folder needs to be loaded without the package `ura_hf`: this code, and entries that name it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from .loading import CONFIG_FILE, PROCESSOR_FILE

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


def carry_code(folder: Path) -> None:
    """Copy this code into a checkpoint folder and enter it in the config files that are there."""
    here = Path(__file__).parent
    for module in here.glob("*.py"):
        if module.name != "__init__.py":
            shutil.copyfile(module, folder / module.name)
    for name, entries in ENTRIES.items():
        if (path := folder / name).is_file():
            path.write_text(json.dumps(json.loads(path.read_text()) | entries, indent=2) + "\n")
