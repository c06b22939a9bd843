"""One run of a benchmark, in a process of its own: check, train, evaluate, card, result. What is done is not done again."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
import time
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..data.check import Check, check_category
from ..data.datasets import checkpoint_name
from ..data.files import files_fingerprint, write_json
from ..data.left_out import clauses
from ..data.opening import open_dataset
from ..data.records import EVALUATION, METRIC_KEYS, TRAINING, write_record
from ..evaluation.evaluate import evaluate
from ..hub.card import FIGURE, draw_figure, make_card
from ..hub.load import load_detector
from ..inference import Pair
from ..model.errors import UserError
from ..model.image_processing_uranet import URANetImageProcessor
from ..training.finish import peak_memory
from ..training.options import MAX_IMAGES
from ..training.train import make_processor, train
from .settings import Run, Settings

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # exit code
KEPT = (
    *("command", "images", "good_images", "left_out", "seconds", "resumed", "peak_memory_gib", "peak_gpu_memory_gib"),
    *("data_wait_share", "hardware", "precision", "versions"),
)
"""What a result keeps of the training record."""
SAID = ("not_drawn", "unmasked", "black_masks")  # reasons to leave files out that have notes of their own


def execute(run: Run, settings: Settings, command: str) -> None:
    """Do a run and write its result, or why it failed. Ends with the process that started it."""
    _end_with_parent()
    gc.freeze()  # what was imported stays: no later collection need look at it
    try:
        write_json(run.result, _result(run, settings, command))
    except UserError as error:
        write_json(run.failure, {"reason": str(error), "time": time.time()})
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # the other categories go on
        logger.exception("%s failed", run.name)
        write_json(run.failure, {"reason": f"unexpected {type(error).__name__}: {error}", "time": time.time()})


def fingerprint(category: Path) -> str:
    """Changes with the names, sizes and times of the images and masks of a category."""
    dataset = open_dataset(category)
    masks = [mask for sample in dataset.test for mask in sample.masks]
    return files_fingerprint([sample.image for sample in dataset.train + dataset.test] + masks)


def _end_with_parent() -> None:
    parent = parent_process()

    def wait() -> None:
        parent.join()  # type: ignore[union-attr]
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()


def _result(run: Run, settings: Settings, command: str) -> dict[str, Any]:
    check = check_category(run.dataset, run.category, run.data)
    _refuse(check, settings)
    images = len(open_dataset(run.data).train)
    options = settings.options(run.data, run.checkpoint, run.seed, images)
    config = settings.model()
    images_now = fingerprint(run.data)
    if not (run.checkpoint / TRAINING).exists():
        write_json(run.images, images_now)
        processor = make_processor(options, config)
        every = max(1, options.steps_for(images) // settings.best_on_test) if settings.best_on_test else 0
        train(options, config, command, [Envelope(run, processor, every)] if every else ())
    elif run.images.exists() and json.loads(run.images.read_text()) != images_now:
        raise UserError(f"its images changed since it was trained: remove {run.checkpoint} to do it again")
    training = json.loads((run.checkpoint / TRAINING).read_text())
    began = time.monotonic()
    report = {**evaluate(load_detector(run.checkpoint), run.data, strict=settings.strict), "dataset": run.category}
    seconds = time.monotonic() - began
    write_record(run.checkpoint / EVALUATION, report)
    draw_figure(report, run.checkpoint / FIGURE)
    make_card(run.checkpoint, checkpoint_name(run.dataset, run.category)).save(run.checkpoint / "README.md")
    return {
        "category": run.category,
        "seed": run.seed,
        **report,
        "best_on_test": _best(run, report) if settings.best_on_test else None,
        "notes": check.notes + _limits(images, options.limit) + _left_out(training, report),
        "steps": options.steps,
        "training": {key: training[key] for key in KEPT},
        "evaluation_seconds": round(seconds, 1),
        "processor_seconds": round(time.process_time(), 1),
        "peak_memory_gib": round(max(training["peak_memory_gib"], peak_memory()), 2),
        "fingerprint": images_now,
    }


def _refuse(check: Check, settings: Settings) -> None:
    if check.error:
        raise UserError(check.error)
    if check.damaged:
        more = f" (and {len(check.damaged) - 1} more)" if len(check.damaged) > 1 else ""
        raise UserError(f"{check.damaged[0]}{more}; `uranet data check` lists all")
    if check.differences and not settings.partial:
        raise UserError(
            f"{check.folder} is not the published {check.category} ({'; '.join(check.differences)}): extract it again, or "
            "pass --partial to take it as it is"
        )


def _limits(images: int, limit: int | None) -> list[str]:
    used = min(limit or MAX_IMAGES, MAX_IMAGES)
    return [f"trained on {used} of {images} good images, drawn by the seed"] if used < images else []


def _left_out(training: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """How the images were divided, and what of them training or evaluation did not use, but for what other notes say."""
    records = [
        {reason: files for reason, files in record["left_out"].items() if reason not in SAID}
        for record in (training, report)
    ]
    return list(
        dict.fromkeys([*report["notes"], *(f"left out: {one}" for record in records for one in clauses(record))])
    )


def _best(run: Run, report: dict[str, Any]) -> dict[str, float | None]:
    """The largest value of every metric at any measured step, the last one included."""
    steps = [*json.loads(run.envelope.read_text()).values(), report] if run.envelope.exists() else [report]
    values = {key: [step[key] for step in steps if step[key] is not None] for key in METRIC_KEYS}
    return {key: max(measured, default=None) for key, measured in values.items()}


class Envelope(TrainerCallback):
    """Measures the model on the test images every so many steps; leaves the run's random numbers as they were."""

    def __init__(self, run: Run, processor: URANetImageProcessor, every: int) -> None:
        self.run, self.processor, self.every = run, processor, every

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self.every or state.global_step == state.max_steps:
            return
        known = json.loads(self.run.envelope.read_text()) if self.run.envelope.exists() else {}
        with torch.random.fork_rng():
            model.eval()
            report = evaluate(Pair(model.detector, self.processor), self.run.data)
            model.train()
        known = {step: figures for step, figures in known.items() if int(step) < state.global_step}
        known[str(state.global_step)] = {key: report[key] for key in METRIC_KEYS}
        write_json(self.run.envelope, known)
