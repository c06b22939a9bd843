"""Upload of checkpoints to the Hugging Face Hub, with card and code."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from ..data.network import TransportError
from ..data.records import EVALUATION, RECORDS, read_record
from ..model.carrying import carry_code
from ..model.errors import UserError
from ..model.loading import (
    CONFIG_FILE,
    PROCESSOR_FILE,
    WEIGHTS_FILE,
    index_name,
    require_files,
    weight_files,
    weight_patterns,
    weights_name,
)
from .card import FIGURE, draw_figure, make_card
from .download import FILES, checkpoint_folder

MESSAGE = "Upload URA-Net checkpoint"


def push(
    checkpoint: str | Path, repo_id: str, private: bool = False, token: str | None = None, license: str | None = None
) -> str:
    """Upload a checkpoint as a model repository and return its address; unchanged files are not sent again.

    Raises:
        UserError: The checkpoint is incomplete, the name is not valid, or the Hub refuses or can't be reached.
    """
    require_repo_id(repo_id)
    folder = checkpoint_folder(checkpoint)
    with tempfile.TemporaryDirectory() as staging, upload_errors(repo_id):
        copy_checkpoint(folder, Path(staging))
        carry_code(Path(staging))
        _describe(Path(staging), repo_id, license)
        url = HfApi(token=token).create_repo(repo_id, private=private, exist_ok=True)
        _send(Path(staging), repo_id, token=token)
    return str(url)


def require_repo_id(repo_id: str) -> None:
    """Raise UserError unless it is NAMESPACE/NAME, as the Hub allows it."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"--to must be NAMESPACE/NAME, but got {repo_id!r} ({error}).") from error
    if repo_id.count("/") != 1:
        raise UserError(f"--to must be NAMESPACE/NAME, but got {repo_id!r}.")


def upload(folder: Path, repo_id: str, **commit: Any) -> CommitInfo:
    """Add the card to a folder that transformers saved, and upload it to a repository that exists.

    `commit` holds `commit_message`, `commit_description`, `token`, `revision` and `create_pr`, as in `HfApi.upload_folder`; a
    branch that does not exist is created.

    Raises:
        UserError: The config is damaged, or the package of the card is missing. Errors of the Hub are raised as they are.
    """
    if weight_files(folder):  # the card is of the main weights: not of a variant, nor of an image processor alone
        _describe(folder, repo_id)
    return _send(folder, repo_id, **commit)


def copy_checkpoint(checkpoint: Path, output: Path) -> None:
    """Copy what others get of a checkpoint: weights, configs, records without paths."""
    require_files(checkpoint, FILES)
    weights = weight_files(checkpoint)
    index = [] if weights[0].name == WEIGHTS_FILE else [checkpoint / index_name(WEIGHTS_FILE)]
    for file in (*weights, *index, checkpoint / CONFIG_FILE, checkpoint / PROCESSOR_FILE):
        shutil.copyfile(file, output / file.name)
    for name in RECORDS:
        if record := read_record(checkpoint, name):
            (output / name).write_text(json.dumps(record, indent=2) + "\n")


def _describe(folder: Path, repo_id: str, license: str | None = None) -> None:
    """Add the card, and the figure of an evaluation."""
    if evaluation := read_record(folder, EVALUATION):
        draw_figure(evaluation, folder / FIGURE)
    make_card(folder, repo_id, license).save(folder / "README.md")


def _send(folder: Path, repo_id: str, *, revision: str | None = None, **commit: Any) -> CommitInfo:
    """Upload a folder in one commit, which also deletes what belongs to the weights that were there before."""
    api = HfApi(token=commit.pop("token", None))
    if revision is not None and not commit.get("create_pr") and not revision.startswith("refs/pr"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    commit["commit_message"] = commit.get("commit_message") or MESSAGE
    replaced = _replaced(path.name for path in folder.iterdir())
    return api.upload_folder(
        repo_id=repo_id, folder_path=folder, revision=revision, delete_patterns=replaced or None, **commit
    )


def _replaced(names: Iterable[str]) -> list[str]:
    """Patterns of files that go when these are uploaded: another form of the same weights.

    With the main weights go their variants, records and figure, too, which are of the weights that were there before.
    """
    weights = {re.sub(r"-\d{5}-of-\d{5}", "", name) for name in names if name.endswith(".safetensors")}
    patterns = [pattern for name in sorted(weights) for pattern in weight_patterns(name)]
    if WEIGHTS_FILE in weights:
        patterns += [*weight_patterns(weights_name("*")), *RECORDS, FIGURE]
    return patterns


@contextmanager
def upload_errors(repo_id: str) -> Iterator[None]:
    """Around an upload: turn what the Hub or the network answers into a UserError."""
    try:
        yield
    except HfHubHTTPError as error:
        status, said = getattr(error.response, "status_code", None), error.server_message
        told = f"the Hub answered {status}" + (f", {' '.join(said.split())[:200]}" if said else "")
        hint = "correct that" if status is not None and 400 <= status < 500 and said else "try again"
        hint = "log in with `hf auth login`, as one who may write there" if status in (401, 403) else hint
        raise UserError(f"{repo_id} could not be uploaded ({told}): {hint}.") from error
    except UserError:
        raise
    except ValueError as error:  # what the Hub says of a card
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{repo_id} could not be uploaded ({reason}): correct that and repeat.") from error
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
    weights = (WEIGHTS_FILE, index_name(WEIGHTS_FILE))
    found = sorted({path.parent for name in weights for path in folder.glob(f"*/{name}")})
    if not found:
        deeper = sorted({path.parent.parent for name in weights for path in folder.glob(f"*/*/{name}")})
        which = f"pass {' or '.join(map(str, deeper[:5]))}" if deeper else "pass a folder that holds some"
        raise UserError(f"{folder} holds no checkpoint folders itself: {which}.")
    return found


def write_checkpoint_zip(folder: Path, name: str, path: Path) -> None:
    """A zip with one folder, `name`: what `from_pretrained` takes, records without paths, and its card."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(file for file in folder.iterdir() if file.is_file()):
            if file.name in RECORDS:
                archive.writestr(f"{name}/{file.name}", json.dumps(read_record(folder, file.name), indent=2) + "\n")
            else:
                archive.write(file, f"{name}/{file.name}")
        archive.writestr(f"{name}/README.md", str(make_card(folder, name)))
