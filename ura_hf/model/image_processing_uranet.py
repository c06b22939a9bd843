"""Prepares images for the network, and brings its maps back to the geometry of the images."""

from __future__ import annotations

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
from .geometry import inner_box, interpolate
from .images import load_image, load_pixels
from .loading import PROCESSOR_FILE, what_to_load
from .pixels import as_floats, resize_in_blocks
from .value_range import value_range_of
from .verdicts import label, limits, ranks_of

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
DRAWN = ("seen_image", "restored_image")
"""Pictures of a result, which are made only where they are asked for."""
LEARNT = (*MAPS[2:], "restored_features")
"""What only the networks give; the verdict needs none of these maps."""


class URANetImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """`ImagesKwargs` and the three fields of URA-Net, described in `URANetImageProcessor`."""

    resize_mode: str | None
    max_value: float | None
    value_range: Any


MAX_SIDE = 2048  # the largest network input, as in URANetConfig


class URANetImageProcessor(CarriesCode, TorchvisionBackend):
    """Resizes to a fixed size with antialiasing and normalises each channel, (x - mean) / std, in float32.

    A side of 8 bits that is more than four times as long as it becomes is first shortened in 8 bits (`pixels.GAP`).

    Fields are saved by `save_pretrained`, and each can be changed for one call:
        size: {"height", "width"} of the network's input [pixels]; a whole number stands for a square.
        resample: the filter, bilinear by default. do_resize, do_normalize: whether to take these steps.
        image_mean, image_std: of RGB in [0, 1], ImageNet's by default.
        max_value: the value that stands for white, e.g. 4095 for a 12-bit camera; None for 65535, and 1 in floats. Images of
            8 bits always have a white of 255.
        value_range: [LOW, HIGH], the values that stand for black and white, in place of `max_value`: for floats and signed
            numbers, such as temperatures. What lies beyond counts as black or white. Not for images of 8 bits.
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
    value_range: Any = None

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        _check_fields(self.resize_mode, self.max_value, self.value_range, self.size)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> URANetImageProcessor:  # type: ignore[override]
        """As in transformers, by folder or name; of a repository on the Hub only this file is fetched."""
        return super().from_pretrained(what_to_load(pretrained_model_name_or_path, (PROCESSOR_FILE,), kwargs), **kwargs)

    def load(self, source: Any) -> np.ndarray:
        """`load_image` with this processor's `max_value` and `value_range`: float32 RGB (H, W, 3) in [0, 1]."""
        return load_image(source, max_value=self.max_value, value_range=self.value_range)

    def load_pixels(self, source: Any) -> np.ndarray:
        """The same, but opaque images of 8 bits come as uint8."""
        return load_pixels(source, max_value=self.max_value, value_range=self.value_range)

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
                padded = interpolate(single, self.size.height, self.size.width)
                single = padded[top : top + inner_height, left : left + inner_width]
            restored.append(interpolate(single, height, width))
        return restored

    def restore_pictures(
        self, pictures: torch.Tensor, original_sizes: torch.Tensor | Sequence[tuple[int, int]]
    ) -> list[torch.Tensor]:
        """As `restore_geometry` for pictures, RGB (B, 3, h, w): one float32 (H, W, 3) per image."""
        sizes = torch.as_tensor(original_sizes).tolist()
        planes = zip(pictures, sizes, strict=True)
        return [torch.stack(self.restore_geometry(one, [size] * len(one)), dim=-1) for one, size in planes]

    def post_process_anomaly_detection(
        self,
        outputs: Any,
        target_sizes: torch.Tensor | Sequence[tuple[int, int]] | None = None,
        threshold: float | None = None,
        maps: Sequence[str] = MAPS,
        config: Any = None,
        max_false_alarms: float | None = None,
        max_review: float | None = None,
    ) -> list[dict[str, Any]]:
        """Verdicts and maps of a batch.

        Args:
            outputs: Output of `URANetForAnomalyDetection`, or a dict with the same keys.
            target_sizes: (B, 2) as (H, W) of the input images [pixels], the processor's `original_sizes`. None leaves the
                maps as they are, (S, S).
            threshold: Score in (0, 1) above which an image is anomalous; None: the calibrated one, 0.5.
            maps: Names of the maps to return, from `MAPS`.
            config: Of the model. With it, there are verdicts ``review``, and `rank`.
            max_false_alarms: Share of good images that may be called anomalous, in place of `threshold`; needs `config`.
            max_review: Share of good images beside these whose verdict may be ``review``; None: as in `config`.

        Returns:
            A dict per image: `label` (one of `verdicts.LABELS`), `score` on the fixed 0-1 scale, `threshold`, the score
            `review` above which it is to be looked at, raw `image_score`, and the maps, float32 tensors (H, W). With `config`
            also `rank` (1 of so many good images scores as high) and `rank_words`, both None for checkpoints without a curve.

        Raises:
            UserError: The model was never calibrated, a score is no number, or `threshold` or a name of a map is wrong.
        """
        limit, review = limits(config, threshold, max_false_alarms, max_review)
        check_maps(maps, outputs)
        if outputs.get("score") is None:
            raise UserError(
                "the checkpoint has no calibrated thresholds, so there is no verdict: train it with `uranet train`, "
                "or call the model itself for raw scores."
            )
        shown = {name: outputs[name].float().cpu() for name in maps}
        restored = {k: v if target_sizes is None else self.restore_geometry(v, target_sizes) for k, v in shown.items()}
        if not outputs["image_score"].isfinite().all():
            raise UserError("the model gives no finite score for this image: choose another checkpoint.")
        ranks = ranks_of(outputs["image_score"], config)
        strange = outputs.get("strangeness")
        results = []
        for row, (score, raw) in enumerate(
            zip(outputs["score"].tolist(), outputs["image_score"].tolist(), strict=True)
        ):
            kind = label(score, None if strange is None else float(strange[row]), limit, review)
            verdict = {"label": kind, "score": score, "threshold": limit, "review": review, **ranks[row]}
            results.append({**verdict, "image_score": raw, **{name: values[row] for name, values in restored.items()}})
        return results

    def inner_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The place of an image (height, width) [pixels] in the network's input: top, left, height, width [pixels]."""
        if not self.do_resize:
            return 0, 0, height, width
        if self.resize_mode == "stretch":
            return 0, 0, self.size.height, self.size.width
        return inner_box(height, width, self.size.height, self.size.width)

    def _validate_preprocess_kwargs(  # type: ignore[override]
        self,
        resize_mode: str | None = None,
        max_value: float | None = None,
        value_range: Any = None,
        size: Any = None,
        **kwargs: Any,
    ) -> None:
        _check_fields(resize_mode, max_value, value_range, size)
        super()._validate_preprocess_kwargs(size=size, **kwargs)

    def _prepare_image_like_inputs(
        self,
        images: Any,
        *args: Any,
        max_value: float | None = None,
        value_range: Any = None,
        device: Any = None,
        **kwargs: Any,
    ) -> list[torch.Tensor]:
        """Load one image or a list of them as (3, H, W) tensors: uint8, or float32 in [0, 1]."""
        if (isinstance(images, torch.Tensor) and images.ndim == 4) or (
            isinstance(images, np.ndarray) and images.ndim == 4
        ):
            images = list(images)
        elif not isinstance(images, (list, tuple)):
            images = [images]
        if not images:
            raise UserError("images must hold at least one image, but got an empty list; give one or more")
        return [_to_tensor(image, max_value, value_range, device) for image in images]

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
        else:
            images = [as_floats(image).contiguous() for image in images]
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
        def resize(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
            return self.resize(pixels, type(size)(height=height, width=width), resample)

        if resize_mode == "stretch":
            return resize_in_blocks(image, size.height, size.width, resize)
        top, left, height, width = inner_box(image.shape[-2], image.shape[-1], size.height, size.width)
        inner = resize_in_blocks(image, height, width, resize)
        padding = (left, size.width - width - left, top, size.height - height - top)
        return F.pad(inner[None], padding, mode="replicate")[0]


def check_maps(maps: Sequence[str], outputs: Any) -> None:
    """Raise UserError unless every name is one of `MAPS`, and the output of a calibrated model has it."""
    if unknown := set(maps) - set(MAPS):
        raise UserError(f"maps must be some of {', '.join(MAPS)}, but got {', '.join(sorted(map(str, unknown)))}.")
    missing = [name for name in maps if outputs.get(name) is None]
    if missing and outputs.get("score") is not None:
        raise UserError(f"the output has no {', '.join(missing)}: leave num_samples=0 out.")


def _check_fields(resize_mode: str | None, max_value: float | None, value_range: Any, size: Any) -> None:
    if resize_mode not in RESIZE_MODES:
        raise UserError(f"resize_mode must be one of {', '.join(RESIZE_MODES)}, but got {resize_mode!r}; choose one")
    value_range_of(max_value, value_range)
    if not (size.height and size.width and max(size.height, size.width) <= MAX_SIDE):
        raise UserError(f"size must have a height and a width of 1 to {MAX_SIDE}, but got {dict(size)}; set both")


def _to_tensor(image: Any, max_value: float | None, value_range: Any, device: Any) -> torch.Tensor:
    if isinstance(image, torch.Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise UserError(
                f"an image tensor must be of shape (3, H, W), or (B, 3, H, W) for a batch, "
                f"but got {tuple(image.shape)}; move its channels to the front"
            )
        device = image.device if device is None else device
        image = image.detach().cpu()
        image = (image.float() if image.is_floating_point() else image).permute(1, 2, 0).numpy()
    pixels = load_pixels(image, max_value=max_value, value_range=value_range)
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1).to(device)
