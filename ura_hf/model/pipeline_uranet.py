"""The pipeline for the task `image-anomaly-detection`: from images of any kind to verdicts and maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Pipeline

from .carrying import TASK, CarriesCode
from .device import pick_device
from .errors import UserError
from .image_processing_uranet import MAPS, THRESHOLD
from .loading import PROCESSOR_FILE, Hooks, weights_name
from .scoring import raw_thresholds

NOT_MANY = (str, bytes, bytearray, memoryview, Mapping)
ARGUMENTS = {"forward": ("num_samples",), "after": ("return_features", "threshold", "maps")}


class URANetPipeline(CarriesCode, Pipeline):
    """Detect anomalies in images.

    One image is a path, a URL, the bytes of a file, an open file, a PIL image, an array (H, W), (H, W, C) or (C, H, W), or a
    tensor (C, H, W) with C = 1 or 3. Arrays and tensors hold uint8, uint16, or floats in [0, 1]. Many images are a list, a tuple,
    a column of a `datasets.Dataset`, an array or a tensor of four dimensions, or an iterator. The model takes `batch_size` of
    them at a time, by default one.

    One image gives a dict, many give a list of dicts. An iterator gives an iterator, which reads images as results are taken.
    A dict has:

    - `label`: ``normal`` or ``anomalous``; `score`: on the fixed 0-1 scale, calibrated so that 0.5 is the threshold;
      `threshold`: the score above which the label is anomalous;
    - `image_score`, `image_threshold`, `pixel_threshold`: raw;
    - maps in the geometry of the input image, float32 (H, W): `score_map` (fixed 0-1 scale where 0.5 is the pixel
      threshold), `anomaly_map` (raw), `anomaly_probability`, and in nats `total_uncertainty`,
      `aleatoric_uncertainty`, `epistemic_uncertainty`;
    - with ``return_features=True``: `features` and `restored_features`, float32 (C, G, G).

    Arguments of a call, or of the constructor for every call: `threshold` (0 to 1, by default 0.5), `maps` (names of the maps to
    return), `return_features`, `num_samples`, `batch_size`.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    @classmethod
    def from_pretrained(cls, name: str | Path, *, variant: str | None = None, **hub: Any) -> URANetPipeline:
        """Load a checkpoint by folder or name, on the GPU if there is one; the other arguments as in transformers."""
        from .image_processing_uranet import URANetImageProcessor
        from .modeling_uranet import URANetForAnomalyDetection

        place = Hooks.find(name, (PROCESSOR_FILE, weights_name(variant)), **hub) if Hooks.find else name
        given = {} if Hooks.find else hub
        model = URANetForAnomalyDetection.from_pretrained(place, variant=variant, **given).eval()
        processor = URANetImageProcessor.from_pretrained(place, **given)
        return cls(model=model, image_processor=processor, device=pick_device())

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save model and image processor; `from_pretrained` and transformers' `pipeline` load them as the same detector.

        The entry `custom_pipelines` of transformers is left out: with it `pipeline` would look for the model in transformers.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.image_processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, **given: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Those that were given, and no others: what is here in a call replaces what the constructor was given."""
        forward, after = ({k: given.pop(k) for k in names if k in given} for names in ARGUMENTS.values())
        if given:
            known = ", ".join([*ARGUMENTS["after"], *ARGUMENTS["forward"]])
            raise UserError(f"{TASK} takes {known}, but got {', '.join(given)}.")
        return {}, forward, after

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        images = _as_many(inputs)
        if isinstance(images, list) and not images:
            return []
        found = super().__call__(images, *args, **kwargs)
        return list(found) if isinstance(images, _Images) else found

    def preprocess(self, input_: Any, **parameters: Any) -> dict[str, Any]:
        inputs = dict(self.image_processor(input_, return_tensors="pt"))
        if (count := len(inputs["pixel_values"])) > 1:
            raise UserError(
                f"one input must be one image, but got a {type(input_).__name__} of {count} images: give a list of images."
            )
        return inputs

    def _forward(self, input_tensors: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        found = self.model(input_tensors["pixel_values"], return_dict=True, **parameters)
        return {**found, "original_sizes": torch.as_tensor(input_tensors["original_sizes"])}

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        return_features: bool = False,
        threshold: float = THRESHOLD,
        maps: Sequence[str] = MAPS,
    ) -> dict[str, Any]:
        sizes = model_outputs["original_sizes"].cpu()
        (found,) = self.image_processor.post_process_anomaly_detection(model_outputs, sizes, threshold, maps)
        found |= raw_thresholds(self.model.config)
        if return_features:
            found |= {name: model_outputs[name][0].float() for name in ("features", "restored_features")}
        return {k: v.cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in found.items()}


def _as_many(inputs: Any) -> Any:
    """Many images in a form that transformers knows as many; one image as it is."""
    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        return list(inputs) if inputs.ndim == 4 else inputs
    if isinstance(inputs, NOT_MANY) or hasattr(inputs, "read") or not isinstance(inputs, Iterable):
        return inputs
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    return _Images(inputs) if isinstance(inputs, Sequence) else (image for image in inputs)


class _Images(torch.utils.data.Dataset[Any]):
    """Images of a column, read one by one."""

    def __init__(self, images: Sequence[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.images)
