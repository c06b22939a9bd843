"""Giving checkpoints to others: upload to the Hugging Face Hub with card and code, and lists of what there is."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelInfo, get_session
from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id
from transformers.dynamic_module_utils import get_relative_import_files

from .card import FIGURE, draw_figure, make_card, read_record
from .configuration_uranet import URANetConfig
from .download import EVALUATION, RECORDS, WEIGHTS_FILE, TransportError, checkpoint_folder, require_files
from .errors import UserError
from .names import WEIGHTS, bundled, checkpoints_folder, local, namespace

CODE = Path(__file__).parent
LIST_SECONDS = 5  # wait for the Hub this long
MODULES = {
    "config.json": {
        "AutoConfig": "configuration_uranet.URANetConfig",
        "AutoModel": "modeling_uranet.URANetForAnomalyDetection",
    },
    "preprocessor_config.json": {"AutoImageProcessor": "image_processing_uranet.URANetImageProcessor"},
}
"""`auto_map` entries, by which transformers finds the code in the repository where `ura_hf` is not installed."""


def prepare(folder: Path, repo_id: str, output: Path, license: str | None = None) -> None:
    """Write into `output` what a repository of this checkpoint holds: weights, configs, code, records, card and figure."""
    require_files(folder)
    shutil.copy(folder / WEIGHTS_FILE, output)
    for name, entries in MODULES.items():
        content = json.loads((folder / name).read_text())
        (output / name).write_text(json.dumps(content | {"auto_map": entries}, indent=2) + "\n")
    for name in RECORDS:
        if record := read_record(folder, name):
            (output / name).write_text(json.dumps(record, indent=2) + "\n")
    sources = {Path(module) for main in ("modeling_uranet", "image_processing_uranet") for module in _sources(main)}
    for source in sources:
        shutil.copy(source, output / source.name)
    if evaluation := read_record(folder, EVALUATION):
        draw_figure(evaluation, output / FIGURE)
    make_card(folder, repo_id, license).save(output / "README.md")


def _sources(main: str) -> list[str]:
    path = str(CODE / f"{main}.py")
    return [path, *get_relative_import_files(path)]


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


def push_card(config: URANetConfig, repo_id: str, token: str | None = None, revision: str | None = None) -> None:
    """Put the card of a checkpoint of which only model and config are known, so "not evaluated", into a repository."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        card = make_card(Path(folder), repo_id)
    card.push_to_hub(repo_id, token=token, revision=revision)


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


@dataclass
class Entry:
    """One checkpoint of a list: `place` is bundled, local or hub; figures are None where it was not evaluated."""

    name: str
    place: str
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None


def here() -> list[Entry]:
    """Bundled checkpoints and those in URA_HF_CHECKPOINTS."""
    folder = checkpoints_folder()
    places = [(name, "bundled", WEIGHTS / name) for name in bundled()]
    places += [(name, "local", folder / name) for name in local()] if folder else []
    return [_entry(name, place, read_record(path, EVALUATION) or {}) for name, place, path in places]


def on_the_hub(token: str | None = None) -> list[Entry]:
    """Checkpoints in the namespace on the Hub, with the figures of their cards.

    Raises:
        UserError: It can't be reached, or HF_HUB_OFFLINE=1.
    """
    if HF_HUB_OFFLINE:
        raise UserError("the Hub was not asked (HF_HUB_OFFLINE=1).")
    query: dict[str, str | int | bool] = {"author": namespace(), "cardData": True, "limit": 1000}
    try:  # not `HfApi.list_models`, which retries for half a minute where there is no network
        answer = get_session().get(
            f"{ENDPOINT}/api/models", params=query, headers=build_hf_headers(token=token), timeout=LIST_SECONDS
        )
        hf_raise_for_status(answer)
    except (TransportError, OSError) as error:
        raise UserError(f"the Hub could not be reached ({' '.join(str(error).split())[:100]}).") from error
    entries = []
    for model in (ModelInfo(**found) for found in answer.json()):
        results = (model.card_data.eval_results if model.card_data else None) or []
        entries.append(_entry(model.id, "hub", {str(result.metric_name): result.metric_value for result in results}))
    return entries


def _entry(name: str, place: str, figures: dict[str, Any]) -> Entry:
    return Entry(name, place, *(figures.get(key) for key in ("image_auroc", "pixel_auroc", "aupro")))
