"""The pipeline for the task `image-anomaly-detection`: from images of any kind to verdicts and maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Pipeline

from .carrying import TASK, CarriesCode
from .device import pick_device
from .errors import UserError
from .image_processing_uranet import DRAWN, LEARNT, MAPS, check_maps
from .lazy_dict import LazyDict
from .loading import PROCESSOR_FILE, Hooks, weights_name
from .scoring import raw_thresholds

NOT_MANY = (str, bytes, bytearray, memoryview, Mapping)
FEATURES = ("features", "restored_features")
ARGUMENTS = {
    "forward": ("num_samples", "return_restored"),
    "after": ("return_features", "threshold", "maps", "max_false_alarms", "max_review"),
}


class URANetPipeline(CarriesCode, Pipeline):
    """Detect anomalies in images.

    One image is a path, a URL, the bytes of a file, an open file, a PIL image, an array (H, W), (H, W, C) or (C, H, W), or a
    tensor (C, H, W) with C = 1 or 3. Arrays and tensors hold uint8, uint16, or floats in [0, 1], and other numbers where the
    image processor has a `max_value` or `value_range`. Of a file with several pages or frames it is the first one; what
    `ura_hf.frames` gives is all of them. Many images are a list, a tuple, a column of a `datasets.Dataset`, an array or a tensor
    of four dimensions, or an iterator. The model takes `batch_size` of them at a time, by default one.

    One image gives a dict, many give a list of dicts. An iterator gives an iterator, which reads images as results are taken.
    A dict has:

    - `label`: ``normal``, ``review`` (somebody is to look at it), ``anomalous``, or ``unknown``: not the part at all;
    - `score`: on the fixed 0-1 scale, calibrated so that 0.5 is the threshold; `threshold` and `review`: the scores above which
      the label is anomalous and review;
    - `rank` and `rank_words`: 1 of so many good images scores as high, "as unusual as 1 in 300 good parts";
    - `image_score`, `image_threshold`, `pixel_threshold`: raw;
    - maps in the geometry of the input image, float32 (H, W), each made when it is first looked at: `score_map` (fixed 0-1
      scale where 0.5 is the pixel threshold), `anomaly_map` (raw), `anomaly_probability`, and in nats `total_uncertainty`,
      `aleatoric_uncertainty`, `epistemic_uncertainty`;
    - with ``return_features=True``: `features` and `restored_features`, float32 (C, G, G);
    - with ``return_restored=True``: `restored_image`, the part as it should look, and `seen_image`, what the network sees of the
      image: RGB in [0, 1], float32 (H, W, 3) in the geometry of the input image.

    Arguments of a call, or of the constructor for every call: `threshold` (0 to 1, by default 0.5) or in its place
    `max_false_alarms` (share of good images that may be called anomalous), `max_review` (share of good images beside these that
    may be called review), `maps` (names of the maps to return), `return_features`, `return_restored`,
    `num_samples`, `batch_size`.
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
        if "maps" in after:
            after["maps"] = tuple(after["maps"])
        if "num_samples" not in getattr(
            self, "_forward_params", {"num_samples": None}
        ):  # in a call, not in the constructor
            merged = {**self._postprocess_params, **after}
            asked = {*map(str, merged.get("maps", MAPS))}
            if not asked & {*LEARNT} and not merged.get("return_features"):
                forward.setdefault("num_samples", 0)  # what is not asked for is not computed
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
        threshold: float | None = None,
        maps: Sequence[str] = MAPS,
        max_false_alarms: float | None = None,
        max_review: float | None = None,
    ) -> dict[str, Any]:
        sizes = model_outputs["original_sizes"].cpu()
        config = self.model.config
        check_maps(maps, model_outputs)
        (found,) = self.image_processor.post_process_anomaly_detection(
            model_outputs, sizes, threshold, (), config, max_false_alarms, max_review
        )
        found |= raw_thresholds(config)
        drawn = {name: model_outputs[name].cpu() for name in DRAWN if name in model_outputs}
        found |= {
            name: self.image_processor.restore_pictures(picture, sizes)[0].numpy() for name, picture in drawn.items()
        }
        if return_features:
            if absent := [name for name in FEATURES if model_outputs.get(name) is None]:
                raise UserError(
                    f"the output has no {', '.join(absent)}: leave num_samples=0 out, and load the "
                    "checkpoint itself, because exported files give no features."
                )
            found |= {name: model_outputs[name][0].float().cpu().numpy() for name in FEATURES}
        cells = {name: model_outputs[name].float().cpu() for name in maps}
        later = {name: partial(self._restored, cells[name], sizes) for name in maps}
        return LazyDict(found, later)

    def _restored(self, cells: torch.Tensor, sizes: torch.Tensor) -> Any:
        """A map in the geometry of the one image, float32 (H, W)."""
        return self.image_processor.restore_geometry(cells, sizes)[0].numpy()


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
