"""Model cards, made only from a checkpoint's own files, so that every figure in a card was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..data.datasets import facts
from ..data.extras import needs_extra, require
from ..data.files import ASSETS
from ..data.records import EVALUATION, MAIN_METRICS, METRIC_KEYS, METRICS, TRAINING, read_record
from ..model.carrying import TASK
from ..model.configuration_uranet import URANetConfig
from ..model.loading import CONFIG_FILE, PROCESSOR_FILE
from .load import read_part
from .names import dataset_key

FIGURE = "figure.png"
METRIC_TYPES = {"auroc": "roc_auc", "ap": "average_precision", "f1max": "f1", "aupro": "aupro"}


def make_card(
    folder: Path,
    repo_id: str,
    license: str | None = None,
    read: Callable[[Path, str], dict[str, Any] | None] = read_record,
) -> ModelCard:
    """The card of a checkpoint folder as it would be pushed to `repo_id`.

    Figures come from its evaluation.json (`uranet evaluate --save`), or the card says that it was not evaluated.
    `license` is that of the weights; by default that of the dataset in the name, else ``other``. `read` reads its records:
    `readable_record` makes a card without those that are damaged.

    Raises:
        UserError: The config is missing or damaged, a record is, or a package is missing.
    """
    require("jinja2", "train", "a model card")
    name = repo_id.split("/")[-1]
    config = read_part(URANetConfig, folder, CONFIG_FILE)
    training, evaluation = read(folder, TRAINING), read(folder, EVALUATION)
    key = dataset_key(name)
    dataset = facts()[key] if key else None
    category = str(evaluation["dataset"]) if evaluation else name.removeprefix("uranet-")
    backbone = config.backbone
    results = _results(evaluation, category, key) if evaluation else None
    data = _card_data(name, license or (dataset["license"] if dataset else "other"), key, backbone, results)
    note = dataset["license_note"] if dataset else "The licence of the training data is not known here; ask the author."
    return ModelCard.from_template(
        data,
        template_path=str(ASSETS / "modelcard.md.jinja"),
        name=name,
        repo_id=repo_id,
        category=category,
        backbone=backbone,
        config=config,
        training=training,
        evaluation=evaluation,
        heads=list(METRICS.values()),
        rows=_rows(evaluation) if evaluation else [],
        dataset=dataset,
        license_note=f"Licence of the weights: {license}." if license else note,
        figure=FIGURE if evaluation else None,
        whole=(folder / PROCESSOR_FILE).is_file(),
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


def _card_data(
    name: str, license: str, key: str | None, backbone: str, results: list[EvalResult] | None
) -> ModelCardData:
    return ModelCardData(
        language=None,
        license=license,
        library_name="ura-hf",
        pipeline_tag=TASK,
        tags=["ura-net", "anomaly-detection", "anomaly-localization", "image-anomaly-detection"],
        datasets=[key] if key else None,
        base_model=f"timm/{backbone}" if "." in backbone else None,
        model_name=name,
        eval_results=results,
    )


def _rows(evaluation: dict[str, Any]) -> list[list[str]]:
    parts = {"all": evaluation, **evaluation["per_type"]}
    return [
        [name, *("-" if part[key] is None else f"{part[key]:.4f}" for key in METRIC_KEYS)]
        for name, part in parts.items()
    ]


def draw_figure(evaluation: dict[str, Any], path: Path) -> None:
    """Bars of image AUROC, pixel AUROC and AUPRO of every defect type, as PNG."""
    with needs_extra("train", "the figure of a card"):
        from matplotlib.figure import Figure

    parts = {"all": evaluation, **evaluation["per_type"]}
    figure = Figure(figsize=(max(5, 1.1 * len(parts) + 2), 3.2), layout="constrained")
    axes = figure.subplots()
    for index, key in enumerate(MAIN_METRICS):
        values = [part[key] if part[key] is not None else 0.0 for part in parts.values()]
        places = [place + 0.26 * (index - 1) for place in range(len(parts))]
        axes.bar(places, values, 0.24, label=METRICS[key], color=("#1b4f72", "#d98e04", "#7d8a97")[index])
    axes.set_xticks(range(len(parts)), [name.replace("_", "\n") for name in parts])
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
