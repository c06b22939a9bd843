"""A Hugging Face Space that opens the page on one checkpoint; it carries the package, the page, the checkpoint and examples."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, metadata_load, metadata_save

from ..data.datasets import facts
from ..data.files import ASSETS
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from ..model.images import load_image
from ..model.loading import CONFIG_FILE, require_files
from .download import FILES, checkpoint_folder
from .load import read_part
from .names import dataset_key, hub_id, local_folder
from .push import copy_checkpoint, require_repo_id, upload_errors

PACKAGE = ASSETS.parent
SOURCES = {"app.py": "page.py", "requirements.txt": "requirements.txt", "LICENSE": "LICENSE", "README.md": None}
"""Files beside the package in a clone of the repository, and their names in a Space."""
CHECKPOINT, EXAMPLES = "checkpoint", "examples"
SHOWN = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of photos that every browser shows."""
START = f'''"""Opens the page on the checkpoint of this Space."""

import sys
from pathlib import Path

from page import main

HERE = Path(__file__).resolve().parent
FOLDERS = {{"--checkpoint": next((HERE / "{CHECKPOINT}").iterdir()), "--examples": HERE / "{EXAMPLES}"}}

if __name__ == "__main__":
    sys.argv[1:1] = [word for flag, folder in FOLDERS.items() if folder.is_dir() for word in (flag, str(folder))]
    sys.exit(main())
'''
ABOUT = """# {name}

This Space opens the page of URA-Net on the detector `{name}`. The detector has seen only good parts and marks what differs from
them. `uranet space` wrote this folder.

| Part | What it is |
|---|---|
| `checkpoint/` | weights, configs and records of the detector |
| `ura_hf/`, `page.py` | the package that runs it (Apache-2.0, see `LICENSE`) |
| `app.py` | opens the page |
"""


def push_space(
    checkpoint: str | Path,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
    license: str | None = None,
    examples: Sequence[Path] = (),
) -> str:
    """Make or replace the Space `repo_id` and return its address; arguments as in `push` and `write_space`.

    Raises:
        UserError: As in `write_space`, the name is not valid, or the Hub refuses or can't be reached.
    """
    require_repo_id(repo_id)
    with tempfile.TemporaryDirectory() as staging, upload_errors(repo_id):
        space = Path(staging) / "space"
        write_space(checkpoint, space, repo_id.split("/")[-1], license, examples)
        api = HfApi(token=token)
        url = api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="space",
            folder_path=space,
            commit_message="Upload URA-Net Space",
            delete_patterns=[f"{folder}/*" for folder in (CHECKPOINT, EXAMPLES, PACKAGE.name)],
        )
    return str(url)


def write_space(
    checkpoint: str | Path,
    output: Path,
    name: str | None = None,
    license: str | None = None,
    examples: Sequence[Path] = (),
) -> None:
    """Write the files of a Space into an empty or new folder; all of them or none.

    Args:
        checkpoint: Folder or name, as `load_detector` takes it.
        output: The folder.
        name: Title of the Space, and name of the checkpoint on its page; None: that of the folder.
        license: Of the weights; None: that of the dataset in the name of the checkpoint or of the Space, else ``other``.
        examples: Photos that the page offers to try the checkpoint with.

    Raises:
        UserError: The folder is not empty, the checkpoint is incomplete or gives no verdict, an example is no photo that
            browsers show, or this package is not used from a clone of the repository.
    """
    name, clone = name or output.resolve().name, _clone()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is not an empty folder: name a new one.")
    _require_photos(examples)
    folder = checkpoint_folder(checkpoint)
    require_files(folder, FILES)
    if not read_part(URANetConfig, folder, CONFIG_FILE).is_calibrated:
        raise UserError(
            f"{checkpoint} has no calibrated thresholds, so its page could give no verdict: train or calibrate it."
        )
    settings: dict[str, Any] = {"title": name, "license": license or _license(Path(checkpoint).name, name)}
    if local_folder(checkpoint) is None:
        settings["models"] = [hub_id(checkpoint)]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        _fill(Path(scratch) / "space", clone, folder, settings, examples)
        (Path(scratch) / "space").rename(output)


def _fill(output: Path, clone: Path, checkpoint: Path, settings: dict[str, Any], examples: Sequence[Path]) -> None:
    """Write a Space with these `settings` in its front matter beside those of the repository."""
    name = settings["title"]
    (output / CHECKPOINT / name).mkdir(parents=True)
    copy_checkpoint(checkpoint, output / CHECKPOINT / name)
    shutil.copytree(PACKAGE, output / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for source, target in SOURCES.items():
        if target is not None:
            shutil.copyfile(clone / source, output / target)
    (output / "app.py").write_text(START)
    (output / "README.md").write_text(ABOUT.format(name=name))
    metadata_save(output / "README.md", (metadata_load(clone / "README.md") or {}) | settings)
    for photo in examples:
        (output / EXAMPLES).mkdir(exist_ok=True)
        shutil.copyfile(photo, output / EXAMPLES / photo.name)


def _clone() -> Path:
    """The clone of the repository that this package is used from."""
    clone = PACKAGE.parent
    if missing := [source for source in SOURCES if not (clone / source).is_file()]:
        raise UserError(
            f"a Space carries the sources of this package, but {clone} has no {missing[0]}: in a clone of the repository call "
            "`python -m ura_hf space` with the same arguments."
        )
    return clone


def _require_photos(examples: Sequence[Path]) -> None:
    for photo in examples:
        load_image(photo)
        if photo.suffix.lower() not in SHOWN:
            raise UserError(f"--examples must be photos that browsers show ({', '.join(SHOWN)}), but got {photo}.")
    names = [photo.name for photo in examples]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--examples must have different file names, but {doubled[0]} comes twice: rename one.")


def _license(*names: str) -> str:
    """That of the first dataset which a name holds, else ``other``."""
    keys = [key for name in names if (key := dataset_key(name))]
    return str(facts()[keys[0]]["license"]) if keys else "other"
