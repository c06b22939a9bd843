"""Prepares images for the network, and brings its maps back to the geometry of the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling
from transformers.processing_utils import ImagesKwargs

from .carrying import CarriesCode
from .errors import UserError
from .images import load_image
from .loading import PROCESSOR_FILE, what_to_load

RESIZE_MODES = ("stretch", "pad")
MAPS = (
    "score_map",
    "anomaly_map",
    "anomaly_probability",
    "total_uncertainty",
    "aleatoric_uncertainty",
    "epistemic_uncertainty",
)
"""Maps of a result, by their names in URANetOutput."""
THRESHOLD = 0.5
"""Where the fixed 0-1 scale has the calibrated threshold."""


class URANetImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """`ImagesKwargs` and the two fields of URA-Net, described in `URANetImageProcessor`."""

    resize_mode: str | None
    max_value: float | None


MAX_SIDE = 2048  # the largest network input, as in URANetConfig


class URANetImageProcessor(CarriesCode, TorchvisionBackend):
    """Resizes to a fixed size with antialiasing in float32 and normalises each channel, (x - mean) / std.

    Fields are saved by `save_pretrained`, and each can be changed for one call:
        size: {"height", "width"} of the network's input [pixels]; a whole number stands for a square.
        resample: the filter, bilinear by default. do_resize, do_normalize: whether to take these steps.
        image_mean, image_std: of RGB in [0, 1], ImageNet's by default.
        max_value: the value in 16-bit sources that stands for white, e.g. 4095 for a 12-bit camera; None for 65535.
        resize_mode: "stretch" resizes both sides freely; "pad" keeps the aspect ratio and puts the image in the
            middle, its edge pixels repeated outwards.
    """

    valid_kwargs = URANetImageProcessorKwargs
    model_input_names = ["pixel_values"]  # noqa: RUF012

    size: Any = {"height": 256, "width": 256}  # noqa: RUF012
    resample = PILImageResampling.BILINEAR
    do_resize = True
    do_rescale = False
    do_normalize = True
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    resize_mode = "stretch"
    max_value: float | None = None

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        _check_fields(self.resize_mode, self.max_value, self.size)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> URANetImageProcessor:  # type: ignore[override]
        """As in transformers, by folder or name; of a repository on the Hub only this file is fetched."""
        return super().from_pretrained(what_to_load(pretrained_model_name_or_path, (PROCESSOR_FILE,), kwargs), **kwargs)

    def restore_geometry(
        self, maps: torch.Tensor, original_sizes: torch.Tensor | Sequence[tuple[int, int]]
    ) -> list[torch.Tensor]:
        """Bring maps back to the geometry of the input images, with this processor's size and resize mode.

        Args:
            maps: (B, h, w), any resolution; they cover the whole network input, padding included.
            original_sizes: (B, 2) as (H, W) [pixels], as in the processor's output.

        Returns:
            One float32 (H, W) map per image, resized bilinearly (with antialiasing when it gets smaller).
        """
        if maps.ndim != 3 or len(maps) != len(original_sizes):
            raise ValueError(
                f"maps must be of shape (B, h, w) with one map for each of the {len(original_sizes)} original sizes, "
                f"but got {tuple(maps.shape)}"
            )
        restored = []
        for single, (height, width) in zip(maps.float(), torch.as_tensor(original_sizes).tolist(), strict=True):
            if self.do_resize and self.resize_mode == "pad":
                top, left, inner_height, inner_width = self.inner_box(height, width)
                padded = _interpolate(single, self.size.height, self.size.width)
                single = padded[top : top + inner_height, left : left + inner_width]
            restored.append(_interpolate(single, height, width))
        return restored

    def post_process_anomaly_detection(
        self,
        outputs: Any,
        target_sizes: torch.Tensor | Sequence[tuple[int, int]] | None = None,
        threshold: float = THRESHOLD,
        maps: Sequence[str] = MAPS,
    ) -> list[dict[str, Any]]:
        """Verdicts and maps of a batch.

        Args:
            outputs: Output of `URANetForAnomalyDetection`, or a dict with the same keys.
            target_sizes: (B, 2) as (H, W) of the input images [pixels], the processor's `original_sizes`. None leaves the
                maps as they are, (S, S).
            threshold: Score in (0, 1) above which an image is anomalous; 0.5 is the calibrated one.
            maps: Names of the maps to return, from `MAPS`.

        Returns:
            A dict per image: `label` (``normal`` or ``anomalous``), `score` on the fixed 0-1 scale, `threshold`, raw
            `image_score`, and the maps, float32 tensors (H, W).

        Raises:
            UserError: The model was never calibrated, a score is no number, or `threshold` or a name of a map is wrong.
        """
        check_threshold(threshold)
        if unknown := set(maps) - set(MAPS):
            raise UserError(f"maps must be some of {', '.join(MAPS)}, but got {', '.join(sorted(map(str, unknown)))}.")
        if outputs.get("score") is None:
            raise UserError(
                "the checkpoint has no calibrated thresholds, so there is no verdict: train it with `uranet train`, "
                "or call the model itself for raw scores."
            )
        shown = {name: outputs[name].float().cpu() for name in maps}
        restored = {k: v if target_sizes is None else self.restore_geometry(v, target_sizes) for k, v in shown.items()}
        results = []
        for row, (score, raw) in enumerate(
            zip(outputs["score"].tolist(), outputs["image_score"].tolist(), strict=True)
        ):
            if not math.isfinite(raw):
                raise UserError("the model gives no finite score for this image: choose another checkpoint.")
            verdict = {"label": "anomalous" if score > threshold else "normal", "score": score, "threshold": threshold}
            results.append({**verdict, "image_score": raw, **{name: values[row] for name, values in restored.items()}})
        return results

    def inner_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The place of an image (height, width) [pixels] in the network's input: top, left, height, width [pixels]."""
        if not self.do_resize:
            return 0, 0, height, width
        if self.resize_mode == "stretch":
            return 0, 0, self.size.height, self.size.width
        return _inner_box(height, width, self.size.height, self.size.width)

    def _validate_preprocess_kwargs(  # type: ignore[override]
        self, resize_mode: str | None = None, max_value: float | None = None, size: Any = None, **kwargs: Any
    ) -> None:
        _check_fields(resize_mode, max_value, size)
        super()._validate_preprocess_kwargs(size=size, **kwargs)

    def _prepare_image_like_inputs(
        self, images: Any, *args: Any, max_value: float | None = None, device: Any = None, **kwargs: Any
    ) -> list[torch.Tensor]:
        """Load one image or a list of them as float32 (3, H, W) tensors in [0, 1]."""
        if (isinstance(images, torch.Tensor) and images.ndim == 4) or (
            isinstance(images, np.ndarray) and images.ndim == 4
        ):
            images = list(images)
        elif not isinstance(images, (list, tuple)):
            images = [images]
        if not images:
            raise UserError("images must hold at least one image, but got an empty list; give one or more")
        return [_to_tensor(image, max_value, device) for image in images]

    def _preprocess(  # type: ignore[override]
        self,
        images: list[torch.Tensor],
        *,
        do_resize: bool,
        size: Any,
        resample: Any,
        resize_mode: str,
        do_normalize: bool,
        image_mean: Any,
        image_std: Any,
        return_tensors: Any,
        **kwargs: Any,
    ) -> BatchFeature:
        """Return `pixel_values` (B, 3, S, S) float32 and `original_sizes` (B, 2) int64 as (H, W) [pixels]."""
        original_sizes = torch.tensor([image.shape[-2:] for image in images])
        if do_resize:
            images = [self._fit(image, size, resample, resize_mode) for image in images]
        shapes = sorted({tuple(image.shape[-2:]) for image in images})
        if len(shapes) > 1:
            raise UserError(
                f"images of one batch must have one size when do_resize is off, but got (H, W) {shapes}; "
                "set do_resize=True or give them one at a time"
            )
        pixel_values = torch.stack(images)
        if do_normalize:
            pixel_values = self.normalize(pixel_values, image_mean, image_std)
        return BatchFeature(
            data={"pixel_values": pixel_values, "original_sizes": original_sizes}, tensor_type=return_tensors
        )

    def _fit(self, image: torch.Tensor, size: Any, resample: Any, resize_mode: str) -> torch.Tensor:
        if resize_mode == "stretch":
            return self.resize(image, size, resample)
        top, left, height, width = _inner_box(image.shape[-2], image.shape[-1], size.height, size.width)
        inner = self.resize(image, type(size)(height=height, width=width), resample)
        padding = (left, size.width - width - left, top, size.height - height - top)
        return F.pad(inner[None], padding, mode="replicate")[0]


def check_threshold(value: float) -> None:
    """Raise UserError unless `value` can be a threshold on the fixed 0-1 scale."""
    if not 0 < value < 1:
        raise UserError(
            f"threshold must lie between 0 and 1, where {THRESHOLD} is the calibrated one, but got {value}: scores are on that "
            "scale; raw ones have the name image_score."
        )


def _check_fields(resize_mode: str | None, max_value: float | None, size: Any) -> None:
    if resize_mode not in RESIZE_MODES:
        raise UserError(f"resize_mode must be one of {', '.join(RESIZE_MODES)}, but got {resize_mode!r}; choose one")
    if max_value is not None and not max_value > 0:
        raise UserError(f"max_value must be positive, but got {max_value}; give the value of white, e.g. 4095")
    if not (size.height and size.width and max(size.height, size.width) <= MAX_SIDE):
        raise UserError(f"size must have a height and a width of 1 to {MAX_SIDE}, but got {dict(size)}; set both")


def _to_tensor(image: Any, max_value: float | None, device: Any) -> torch.Tensor:
    if isinstance(image, torch.Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise UserError(
                f"an image tensor must be of shape (3, H, W), or (B, 3, H, W) for a batch, with values in [0, 1], "
                f"but got {tuple(image.shape)}; move its channels to the front"
            )
        device = image.device if device is None else device
        image = image.detach().cpu()
        image = (image.float() if image.is_floating_point() else image).permute(1, 2, 0).numpy()
    return torch.from_numpy(load_image(image, max_value=max_value)).permute(2, 0, 1).contiguous().to(device)


def _inner_box(height: int, width: int, target_height: int, target_width: int) -> tuple[int, int, int, int]:
    """Where "pad" puts an image of (height, width) in the target: top, left, height, width [pixels]."""
    scale = min(target_height / height, target_width / width)
    inner_height = min(max(round(height * scale), 1), target_height)
    inner_width = min(max(round(width * scale), 1), target_width)
    return (target_height - inner_height) // 2, (target_width - inner_width) // 2, inner_height, inner_width


def _interpolate(single: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize one (h, w) map to (height, width)."""
    if single.shape == (height, width):
        return single
    return F.interpolate(single[None, None], (height, width), mode="bilinear", align_corners=False, antialias=True)[
        0, 0
    ]
