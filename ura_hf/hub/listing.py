"""Lists checkpoints: bundled, local, and in a namespace of the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import ModelInfo, get_session
from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from ..data.datasets import facts
from ..data.files import ASSETS
from ..data.network import TransportError
from ..data.records import EVALUATION, MAIN_METRICS, as_share, readable_record
from ..model.errors import UserError
from .names import PUBLISHED, bundled, checkpoints_folder, dataset_key, local, making_command, namespace

LIST_SECONDS = 5  # wait for the Hub this long


@dataclass
class Entry:
    """One checkpoint of a list: `place` is bundled, local or hub; `license` is that of the weights, None where it is not known;
    figures are None if it was not evaluated."""

    name: str
    place: str
    license: str | None = None
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None


def here() -> list[Entry]:
    """Bundled checkpoints and those in URA_HF_CHECKPOINTS."""
    folder = checkpoints_folder()
    places = [(name, "bundled", ASSETS / name) for name in bundled()]
    places += [(name, "local", folder / name) for name in local()] if folder else []
    return [_entry(name, place, _license(name), readable_record(path, EVALUATION)) for name, place, path in places]


def to_make(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Which of `PUBLISHED` are not among the entries, a line for each dataset: their names, and the command that makes them."""
    there = {entry.name.split("/")[-1] for entry in entries}
    missing = [name for name in PUBLISHED if name not in there]
    keys = dict.fromkeys(str(dataset_key(name)) for name in missing)
    return [(", ".join(name for name in missing if dataset_key(name) == key), making_command(key)) for key in keys]


def on_the_hub(token: str | None = None) -> list[Entry]:
    """Checkpoints in the namespace on the Hub, with the figures of their cards.

    Raises:
        UserError: No namespace is set, it can't be reached, or HF_HUB_OFFLINE=1.
    """
    if namespace() is None:
        raise UserError("the Hub was not asked: set URA_HF_NAMESPACE to list the checkpoints of a namespace.")
    if HF_HUB_OFFLINE:
        raise UserError("the Hub was not asked (HF_HUB_OFFLINE=1).")
    query: dict[str, str | int | bool] = {"author": str(namespace()), "cardData": True, "limit": 1000}
    try:  # not `HfApi.list_models`, which retries for half a minute where there is no network
        answer = get_session().get(
            f"{ENDPOINT}/api/models", params=query, headers=build_hf_headers(token=token), timeout=LIST_SECONDS
        )
        hf_raise_for_status(answer)
    except (TransportError, OSError) as error:
        raise UserError(f"the Hub could not be reached ({' '.join(str(error).split())[:100]}).") from error
    try:
        models = [ModelInfo(**found) for found in answer.json()]
    except (ValueError, TypeError, LookupError) as error:
        raise UserError("the Hub gave no list of models: try again.") from error
    entries = []
    for model in models:
        results = (model.card_data.eval_results if model.card_data else None) or []
        license = model.card_data.license if model.card_data else None
        figures = {str(result.metric_name): result.metric_value for result in results}
        entries.append(_entry(model.id, "hub", str(license)[:40] if license else None, figures))
    return entries


def _license(name: str) -> str | None:
    """That of the dataset that a name tells."""
    key = dataset_key(name)
    return facts()[key]["license"] if key else None


def _entry(name: str, place: str, license: str | None, figures: dict[str, Any]) -> Entry:
    """An entry with those figures that are numbers from 0 to 1; cards on the Hub may hold anything."""
    return Entry(name, place, license, *(as_share(figures.get(key)) for key in MAIN_METRICS))
