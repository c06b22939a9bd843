"""Model cards: what a checkpoint is, rendered from its own files, so that a card says nothing that was not measured."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .data.datasets import facts
from .download import EVALUATION, TRAINING
from .errors import UserError
from .metrics import METRIC_KEYS
from .pipeline import TASK

FIGURE = "figure.png"
_ROOT = r"(?:~|[A-Za-z]:)?[/\\]"  # what absolute paths start with
METRIC_TYPES = {"auroc": "roc_auc", "ap": "average_precision", "f1max": "f1", "aupro": "aupro"}


def read_record(folder: Path, name: str) -> dict[str, Any] | None:
    """A JSON record of a checkpoint, its absolute paths cut to their last part; None where there is none.

    Raises:
        UserError: The file is not JSON.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(), parse_constant=lambda value: None)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable JSON ({error}): remove it or make it again.") from error
    shortened: dict[str, Any] = _shorten(record)
    return shortened


def _shorten(value: Any, name: str = "") -> Any:
    """A record with the paths in it cut: in `command` word by word, elsewhere a value that starts as a path is one."""
    if isinstance(value, dict):
        return {key: _shorten(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    if not isinstance(value, str):
        return value
    if name == "command":
        with contextlib.suppress(ValueError):  # quotes without an end: no command that `shlex.join` wrote
            return shlex.join(_shorten_word(word) for word in shlex.split(value))
    return _shorten_word(value) if re.match(_ROOT, value) else shorten_paths(value)


def _shorten_word(word: str) -> str:
    """One word of a command, which may hold spaces: `/a b/c` or `--data=/a b/c`."""
    return shorten_paths(re.sub(rf"^([^/\\]*=)?{_ROOT}[/\\]*(?:[^/\\]+[/\\]+)*?([^/\\]+)[/\\]*$", r"\1\2", word))


def shorten_paths(text: str) -> str:
    """A text with its absolute paths cut to their last part, since where files lie is nobody else's business."""
    return re.sub(rf"(?<![\w./~-]){_ROOT}(?:[^\s/\\]+[/\\])*([^\s/\\]+)", r"\1", text)


def dataset_key(name: str) -> str | None:
    """mvtec of uranet-mvtec-bottle; None where the name says nothing."""
    parts = name.removeprefix("uranet-").split("-")
    return parts[0] if name.startswith("uranet-") and parts[0] in facts() else None


def make_card(folder: Path, repo_id: str, license: str | None = None) -> ModelCard:
    """The card of a checkpoint folder as it would be pushed to `repo_id`.

    Figures come from its evaluation.json (`uranet evaluate --save`), or the card says that it was not evaluated.
    `license` is that of the weights; by default that of the dataset in the name, else ``other``.
    """
    name = repo_id.split("/")[-1]
    config = read_record(folder, "config.json") or {}
    training, evaluation = read_record(folder, TRAINING), read_record(folder, EVALUATION)
    key = dataset_key(name)
    dataset = facts()[key] if key else None
    category = str(evaluation["dataset"]) if evaluation else name.removeprefix("uranet-")
    backbone = str(config.get("backbone", ""))
    data = ModelCardData(
        language=None,
        license=license or (dataset["license"] if dataset else "other"),
        library_name="ura-hf",
        pipeline_tag=TASK,
        tags=["ura-net", "anomaly-detection", "anomaly-localization", "image-anomaly-detection"],
        datasets=[key] if key else None,
        base_model=f"timm/{backbone}" if "." in backbone else None,
        model_name=name,
        eval_results=_results(evaluation, category, key) if evaluation else None,
    )
    note = dataset["license_note"] if dataset else "The licence of the training data is not known here; ask the author."
    with as_file(files("weights_card").joinpath("modelcard.md.jinja")) as template:
        return ModelCard.from_template(
            data,
            template_path=str(template),
            name=name,
            repo_id=repo_id,
            category=category,
            backbone=backbone,
            config=config,
            training=training,
            evaluation=evaluation,
            rows=_rows(evaluation) if evaluation else [],
            dataset=dataset,
            license_note=f"Licence of the weights: {license}." if license else note,
            figure=FIGURE if evaluation else None,
            whole=(folder / "preprocessor_config.json").is_file(),
            figure_text=f"Image AUROC, pixel AUROC and AUPRO of each defect type of {category}",
        )


def _results(evaluation: dict[str, Any], category: str, key: str | None) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=key or category,
            dataset_name=category,
            dataset_config=f"test; last step; {evaluation['protocol']['network_input']} px input",
            metric_type=METRIC_TYPES[metric.split("_")[-1]],
            metric_name=metric,
            metric_value=round(evaluation[metric], 4),
        )
        for metric in METRIC_KEYS
        if evaluation.get(metric) is not None
    ]


def _rows(evaluation: dict[str, Any]) -> list[list[str]]:
    parts = {"all": evaluation, **evaluation["per_type"]}
    return [
        [name, *("-" if part[key] is None else f"{part[key]:.4f}" for key in METRIC_KEYS)]
        for name, part in parts.items()
    ]


def draw_figure(evaluation: dict[str, Any], path: Path) -> None:
    """Bars of image AUROC, pixel AUROC and AUPRO of every defect type, as PNG."""
    from matplotlib.figure import Figure

    parts = {"all": evaluation, **evaluation["per_type"]}
    figure = Figure(figsize=(max(5, 1.1 * len(parts) + 2), 3.2), layout="constrained")
    axes = figure.subplots()
    for index, (key, label) in enumerate(
        (("image_auroc", "image AUROC"), ("pixel_auroc", "pixel AUROC"), ("aupro", "AUPRO"))
    ):
        values = [part[key] if part[key] is not None else 0.0 for part in parts.values()]
        places = [place + 0.26 * (index - 1) for place in range(len(parts))]
        axes.bar(places, values, 0.24, label=label, color=("#1b4f72", "#d98e04", "#7d8a97")[index])
    axes.set_xticks(range(len(parts)), [name.replace("_", "\n") for name in parts])
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
