"""Upload of checkpoints to the Hugging Face Hub, with card and code."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from ..data.network import TransportError
from ..data.records import EVALUATION, RECORDS, read_record
from ..model.carrying import carry_code
from ..model.errors import UserError
from ..model.loading import CONFIG_FILE, PROCESSOR_FILE, WEIGHTS_FILE, require_files, weight_files
from .card import FIGURE, draw_figure, make_card
from .download import FILES, checkpoint_folder


def prepare(folder: Path, repo_id: str, output: Path, license: str | None = None) -> None:
    """Write into `output` what a repository of this checkpoint holds: weights, configs, code, records, card and figure."""
    require_files(folder, FILES)
    for file in (*weight_files(folder), *folder.glob("*.index.json"), folder / CONFIG_FILE, folder / PROCESSOR_FILE):
        shutil.copy(file, output)
    carry_code(output)
    for name in RECORDS:
        if record := read_record(folder, name):
            (output / name).write_text(json.dumps(record, indent=2) + "\n")
    if evaluation := read_record(folder, EVALUATION):
        draw_figure(evaluation, output / FIGURE)
    make_card(folder, repo_id, license).save(output / "README.md")


def push(
    checkpoint: str | Path, repo_id: str, private: bool = False, token: str | None = None, license: str | None = None
) -> str:
    """Upload a checkpoint as a model repository and return its address; unchanged files are not sent again.

    Raises:
        UserError: The checkpoint is incomplete, the name is not valid, or the Hub refuses or can't be reached.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"--to must be NAMESPACE/NAME, but got {repo_id!r} ({error}).") from error
    if repo_id.count("/") != 1:
        raise UserError(f"--to must be NAMESPACE/NAME, but got {repo_id!r}.")
    folder = checkpoint_folder(checkpoint)
    with tempfile.TemporaryDirectory() as staging, _hub_errors(repo_id):
        prepare(folder, repo_id, Path(staging), license)
        api = HfApi(token=token)
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        message = "Upload URA-Net checkpoint"
        stale = [*RECORDS, FIGURE]  # of weights that were there before, where these have none
        api.upload_folder(repo_id=repo_id, folder_path=staging, commit_message=message, delete_patterns=stale)
    return str(url)


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        hint = "log in with `hf auth login`, as one who may write there" if status in (401, 403) else "try again"
        raise UserError(f"{repo_id} could not be uploaded (the Hub answered {status}): {hint}.") from error
    except OfflineModeIsEnabled as error:
        raise UserError("nothing can be uploaded with HF_HUB_OFFLINE=1: unset it.") from error
    except (TransportError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{repo_id} could not be uploaded ({reason}): check the network and repeat.") from error


def checkpoints_in(folder: Path) -> list[Path]:
    """The complete checkpoints directly in a folder.

    Raises:
        UserError: There is none.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{WEIGHTS_FILE}")) if folder.is_dir() else []
    if not found:
        raise UserError(f"{folder} holds no checkpoint folders: pass the output of a benchmark.")
    return found


def write_checkpoint_zip(folder: Path, name: str, path: Path) -> None:
    """A zip with one folder, `name`: what `from_pretrained` takes, and its card."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(file for file in folder.iterdir() if file.is_file()):
            archive.write(file, f"{name}/{file.name}")
        archive.writestr(f"{name}/README.md", str(make_card(folder, name)))
