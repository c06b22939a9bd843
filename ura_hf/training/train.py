"""From a folder of good images to a calibrated checkpoint: read, extract features, fit, learn, calibrate, save."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import nn

from ..data.extras import require
from ..data.files import files_fingerprint, read_json
from ..data.folder import MIN_TRAIN_IMAGES
from ..data.progress import Progress, silent
from ..data.records import TRAINING
from ..data.textures import cut_into_pieces, generated_textures
from ..model.backbone import timms_weights
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from ..model.image_processing_uranet import URANetImageProcessor
from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.region import Region
from .batches import FeatureBatches
from .features import all_problems_at_once, cached_features, channel_statistics
from .finish import Clock, describe_run, require_finite, save
from .fit import Measured, calibrate_score, fill_tokens, fit_views
from .imagenet import load_imagenet, own_weights
from .material import Material, read_material
from .near_copies import named, near_copies
from .options import TrainingOptions
from .picture import learn_pictures
from .pose import MAX_TURNED_RATIO, TURNED_COPIES, rotation_ratio, views_for
from .posterior import fit_posterior
from .processes import processes
from .randomness import seeded_generators
from .region import loader_within, read_region
from .report import FEW, FalseAlarms, examine, most_unusual, sentences, write_report
from .run_folder import claim_output, resume_point

if TYPE_CHECKING:
    from accelerate import PartialState
    from transformers import TrainerCallback

logger = logging.getLogger(__name__)
Module = TypeVar("Module", bound=nn.Module)


def train(
    options: TrainingOptions,
    config: URANetConfig,
    command: str | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    progress: Progress = silent,
    report: Path | None = None,
) -> dict[str, Any]:
    """Train a detector, calibrate it on the good images and save it; the same call resumes an interrupted run.

    The checkpoint is that of the last step.

    Args:
        options: What the run depends on.
        config: Of the model; calibration sets its thresholds.
        command: The command line, for the record.
        callbacks: transformers' callbacks, called with the model while it trains.
        progress: Called with the stages ``copies``, ``training features``, ``texture features``, ``memory``, ``training`` (with
            losses), ``pictures`` and ``calibration``.
        report: Folder that gets what the good images told, in words and as pictures of the most unusual ones.

    Returns:
        The record that is also written to ``training.json``.

    Raises:
        UserError: A package of the extra `train` is not installed, or data, weights or the output folder can't be used.
        Cancelled: `progress` raised it; the output folder then holds no checkpoint, only what resumes the run.
    """
    require("accelerate", "train", "training")
    from .trainer import learn

    clock, state = Clock(), processes()
    material, processor = read_material(options, config), make_processor(options, config)
    options = dataclasses.replace(options, steps=options.steps_for(len(material.images)))
    if options.roi is not None:
        config.roi = read_region(str(options.roi), material.images[0], processor, config.grid_size)
    copies = _copies(material.images, processor, Region(config.roi, config.grid_size), progress)
    with (
        claim_output(options.output, _ticket(options, config, material), state) as work,
        seeded_generators(options.seed),
    ):
        model = URANetForAnomalyDetection(config)
        seen = extract(options, material, model, processor, work, state, progress)
        batches = fit(options, model, seen, work, state, progress)
        resumed = resume_point(work)
        trainer = learn(options, model, batches, work, resumed, callbacks, progress)
        if state.is_main_process:
            require_finite(model, options.learning_rate)
            fit_posterior(model, batches, seen.images - len(copies), options.seed)
            learn_pictures(model, batches, material.images, processor, options, progress)
            measured = calibrate_score(_rounded(model, options), batches, seen.images, options.seed, progress, copies)
            require_finite(model, options.learning_rate)
            known = {"command": command, **material.counts(), "pose": seen.pose, "resumed": resumed is not None}
            names = [image.name for image in material.images]
            known |= examine([names[row] for row in measured.rows], measured.scores, named(copies, names), model.config)
            record = known | describe_run(options, trainer, clock)
            save(model.half() if options.half else model, processor, record, options.output)
            _write_report(report, record, material.images, measured, processor)
        state.wait_for_everyone()
    return dict(read_json(options.output / TRAINING))


def _copies(
    images: Sequence[Any], processor: URANetImageProcessor, region: Region, progress: Progress
) -> dict[int, int]:
    """`near_copies` of the good images in a region, of which enough must differ; says so where there are hardly any images."""
    copies = near_copies(images, loader_within(processor, region), progress)
    different = len(images) - len(copies)
    if different < MIN_TRAIN_IMAGES:
        raise UserError(
            f"the {len(images)} good images in {Path(images[0]).parent} all show the same: add images of other good parts."
        )
    if different < FEW:
        logger.warning(
            "%d different good images tell next to nothing of other parts: %d are the fewest, 20 or more are better.",
            different,
            FEW,
        )
    return copies


def _write_report(
    folder: Path | None,
    record: dict[str, Any],
    images: Sequence[Any],
    measured: Measured,
    processor: URANetImageProcessor,
) -> None:
    if folder is None:
        return
    shown = [images[measured.rows[row]] for row in most_unusual(measured.scores)]
    write_report(
        folder, sentences(record, FalseAlarms.of_record(record)), [*zip(shown, measured.maps, strict=True)], processor
    )


def make_processor(options: TrainingOptions, config: URANetConfig) -> URANetImageProcessor:
    """The image processor that a checkpoint of these options has; it normalises as the backbone's weights ask for."""
    size = {"height": config.image_size, "width": config.image_size}
    weights = timms_weights(config.backbone)
    colours = {"image_mean": weights.mean, "image_std": weights.std} if weights else {}
    values = {"max_value": options.max_value, "value_range": options.value_range}
    return URANetImageProcessor(size=size, resize_mode=options.resize_mode, **values, **colours)


@dataclass(frozen=True)
class Seen:
    """Features of the images and their turned copies, (N, C, G, G) float16, of the textures, and how the parts lie.

    `textures` are for artificial anomalies; `strangers` stand for all that is not the part: generated ones, or the given photos.
    """

    features: np.ndarray
    textures: np.ndarray | None
    strangers: np.ndarray | None
    images: int
    copies: int
    pose: dict[str, Any]


def extract(
    options: TrainingOptions,
    material: Material,
    model: URANetForAnomalyDetection,
    processor: URANetImageProcessor,
    work: Path,
    state: PartialState,
    progress: Progress,
) -> Seen:
    """Load the backbone's weights, find out how the parts lie, and see every image and texture once."""
    load_imagenet(model.backbone, options.backbone_weights)
    _rounded(model.backbone.to(state.device), options)
    images, cache = material.images, options.cache or work
    with all_problems_at_once(images, processor):
        ratio = rotation_ratio(images, model.backbone, processor) if options.pose == "auto" else None
    copies = TURNED_COPIES if options.pose == "any" or (ratio is not None and ratio <= MAX_TURNED_RATIO) else 0
    with state.main_process_first():
        features = cached_features(images, model.backbone, processor, cache, "training", copies, progress)
        textures, strangers = (
            cached_features(files, model.backbone, processor, cache, "texture", progress=progress) if files else None
            for files in _texture_files(options, material, cache, model.config.image_size)
        )
    return Seen(features, textures, strangers, len(images), copies, {"rotation_ratio": ratio, "turned_copies": copies})


def _texture_files(
    options: TrainingOptions, material: Material, cache: Path, side: int
) -> tuple[Sequence[Path], Sequence[Path]]:
    """What artificial anomalies are made of, and what stands for all that is not the part."""
    if material.texture_source is None or options.textures is not None:
        return material.textures, material.textures
    generated = generated_textures(cache, side, options.seed)
    return cut_into_pieces(material.textures, cache) or generated, generated


def fit(
    options: TrainingOptions,
    model: URANetForAnomalyDetection,
    seen: Seen,
    work: Path,
    state: PartialState,
    progress: Progress,
) -> FeatureBatches:
    """Set the statistics, the views and the tokens of restoration from the good images; returns their batches."""
    model.config.views = views_for(model.config.views, seen.copies)
    rows = list(range(len(seen.features)))
    mean, deviations = channel_statistics(seen.features, rows, model.uranet.region)
    model.backbone.set_statistics(mean, model.backbone.level_deviations(deviations))
    _rounded(model.backbone, options)
    batches = FeatureBatches(seen.features, rows, seen.textures, model, seen.strangers)
    progress("memory", 0, 2)
    fit_views(model.uranet.views, batches.features_of, rows, options.seed)
    _rounded(model.uranet.views, options)
    progress("memory", 1, 2)
    with state.main_process_first():
        batches.project(model.uranet.views, work, state.is_main_process)
    fill_tokens(model, batches, options.seed)
    return batches


def _rounded(module: Module, options: TrainingOptions) -> Module:
    """The module, its weights rounded in place to what the checkpoint stores."""
    return module.half().float() if options.half else module


def _ticket(options: TrainingOptions, config: URANetConfig, material: Material) -> dict[str, Any]:
    """What a run must share with the one that it resumes."""
    choices = {k: v for k, v in dataclasses.asdict(options).items() if k not in ("output", "cache", "strict")}
    weights = options.backbone_weights or own_weights(config.backbone)
    files = {"images": files_fingerprint(material.images), "textures": files_fingerprint(material.textures)}
    files["backbone"] = files_fingerprint([weights] if weights and weights.is_file() else [])
    return choices | files | {"config": config.to_diff_dict()}
