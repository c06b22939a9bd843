"""The pipeline task `image-anomaly-detection`: anything that is an image in, verdict and maps out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import Pipeline

from .errors import UserError

TASK = "image-anomaly-detection"
MAPS = (
    "score_map",
    "anomaly_map",
    "anomaly_probability",
    "total_uncertainty",
    "aleatoric_uncertainty",
    "epistemic_uncertainty",
)


def check_score(raw: float) -> None:
    """Raise UserError unless a raw score is a number, which neither is above a threshold nor below it."""
    if not math.isfinite(raw):
        raise UserError("the model gives no finite score for this image: choose another checkpoint.")


def check_threshold(value: float) -> None:
    """Raise UserError unless `value` can be the threshold of a raw score."""
    if not 0 < value < math.inf:
        raise UserError(f"threshold must be a finite number above 0, but got {value}.")


class URANetPipeline(Pipeline):
    """Detect anomalies in images.

    Called with a path, a PIL image, an array, or a list or tuple of them; gives a dict an image:

    - `label`: ``normal`` or ``anomalous``; `score`: on the fixed 0-1 scale where 0.5 is the threshold;
    - `image_score`, `threshold`, `pixel_threshold`: raw;
    - maps in the geometry of the input image, float32 (H, W): `score_map` (fixed 0-1 scale where 0.5 is the pixel
      threshold), `anomaly_map` (raw), `anomaly_probability`, and in nats `total_uncertainty`,
      `aleatoric_uncertainty`, `epistemic_uncertainty`;
    - with ``return_features=True``: `features` and `restored_features`, float32 (C, G, G).

    Arguments of a call, or of the constructor for every call: `return_features`, `threshold` (raw, in place of the
    calibrated one), `num_samples`.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    @classmethod
    def from_pretrained(cls, name: str | Path, **hub: Any) -> URANetPipeline:
        """The pipeline of a checkpoint by folder or name, as `ura_hf.hub.load_detector`."""
        from .hub import load_detector

        return load_detector(name, **hub)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write model and image processor, from which `from_pretrained` and transformers' `pipeline` make the same detector.

        Without the entry for code on the Hub that transformers would add: with it `pipeline` looks for our model in transformers.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.image_processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, **given: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Those that were given, and no others: what is here in a call replaces what the constructor was given."""
        forward = {name: given.pop(name) for name in ("num_samples",) if name in given}
        after: dict[str, Any] = {name: given.pop(name) for name in ("return_features", "threshold") if name in given}
        if given:
            raise UserError(f"{TASK} takes return_features, threshold and num_samples, but got {', '.join(given)}.")
        return {}, forward, after

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, (list, tuple)):
            return super().__call__(list(inputs), *args, **kwargs) if inputs else []
        return super().__call__(inputs, *args, **kwargs)

    def preprocess(self, input_: Any, **parameters: Any) -> dict[str, Any]:
        inputs = dict(self.image_processor(input_, return_tensors="pt"))
        if (count := len(inputs["pixel_values"])) > 1:
            raise UserError(
                f"one input must be one image, but got a {type(input_).__name__} of {count} images: give a list of images."
            )
        return inputs

    def _forward(self, input_tensors: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        found = self.model(input_tensors["pixel_values"], **parameters)
        return {**found, "original_sizes": torch.as_tensor(input_tensors["original_sizes"])}

    def postprocess(
        self, model_outputs: dict[str, Any], return_features: bool = False, threshold: float | None = None
    ) -> dict[str, Any]:
        output, sizes = model_outputs, model_outputs["original_sizes"].cpu()
        config = self.model.config
        limit = config.image_threshold if threshold is None else threshold
        if limit is None or config.pixel_threshold is None:
            raise UserError(
                "the checkpoint has no calibrated thresholds, so there is no verdict: train it with `uranet train`, "
                "or call the model itself for raw scores."
            )
        check_threshold(limit)
        raw = float(output["image_score"][0])
        check_score(raw)
        result: dict[str, Any] = {
            "label": "anomalous" if raw > limit else "normal",
            "score": raw / (raw + limit),
            "image_score": raw,
            "threshold": limit,
            "pixel_threshold": config.pixel_threshold,
        }
        for name in MAPS:
            maps = output[name].float().cpu()
            result[name] = self.image_processor.restore_geometry(maps, sizes)[0].numpy()
        if return_features:
            for name in ("features", "restored_features"):
                result[name] = output[name][0].float().cpu().numpy()
        return result
