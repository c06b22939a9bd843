"""The one loop from images to results: read ahead, batch, model, then one `Finding` an image in the order that they came.

The one other loop is that of transformers' `Pipeline`: `URANetPipeline` runs the same three steps in it: the image processor, the
model and `post_process_anomaly_detection`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .data.prefetch import read_ahead
from .model.errors import UserError
from .model.image_processing_uranet import DRAWN, LEARNT, MAPS, URANetImageProcessor
from .model.scoring import raw_thresholds

Float = NDArray[np.floating[Any]]
Picture = NDArray[Any]
Keep = Callable[[Picture], Picture | None]


class Detector(Protocol):
    """A model and its image processor, such as a `URANetPipeline`."""

    @property
    def model(self) -> Any: ...

    @property
    def image_processor(self) -> Any: ...


class Pair(NamedTuple):
    """The plainest `Detector`."""

    model: Any
    image_processor: Any


@dataclass(frozen=True)
class Finding:
    """What a detector found on one image."""

    source: Any
    """The image as it was given: a path, mostly."""
    size: tuple[int, int]
    """(H, W) of the image [pixels]."""
    picture: Picture | None
    """What `keep` made of the image, by default nothing."""
    output: dict[str, Tensor] = field(repr=False)
    """The fields of URANetOutput that belong to this image, each with a batch of one, on the CPU."""
    processor: URANetImageProcessor = field(repr=False)
    config: Any = field(repr=False)
    """Of the model."""
    seconds: float
    """What the model took for the batch that this image was in."""

    @property
    def raw_score(self) -> float:
        """Raw image score, also of a model without thresholds."""
        return float(self.output["image_score"][0])

    @property
    def thresholds(self) -> dict[str, float | None]:
        """The raw `image_threshold` and `pixel_threshold`; None before calibration."""
        return raw_thresholds(self.config)

    def verdict(
        self,
        threshold: float | None = None,
        maps: Sequence[str] = (),
        size: tuple[int, int] | None = None,
        **rates: float | None,
    ) -> dict[str, Any]:
        """As `post_process_anomaly_detection` with the model's config, and the raw `thresholds`.

        Maps are arrays at `size`, (H, W), by default that of the image.

        Raises:
            UserError: The model was never calibrated, or gives no number.
        """
        (result,) = self.processor.post_process_anomaly_detection(
            self.output, [size or self.size], threshold, maps, self.config, **rates
        )
        arrays = {name: value.numpy() if isinstance(value, Tensor) else value for name, value in result.items()}
        return arrays | self.thresholds

    def map(self, name: str, size: tuple[int, int] | None = None) -> Float:
        """A map of `MAPS` at `size`, (H, W), by default that of the image, float32."""
        return self.processor.restore_geometry(self.output[name].float(), [size or self.size])[0].numpy()

    def drawn(self, name: str, size: tuple[int, int] | None = None) -> Float:
        """A picture of `DRAWN` at `size`, (H, W), by default that of the image: float32 RGB (H, W, 3) in [0, 1]."""
        return self.processor.restore_pictures(self.output[name], [size or self.size])[0].numpy()


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read, and why."""

    source: Any
    error: UserError


def _forget(image: Picture) -> None:
    return None


def find(
    detector: Detector,
    sources: Iterable[Any],
    batch_size: int = 1,
    keep: Keep = _forget,
    fields: Sequence[str] = MAPS,
    num_samples: int | None = None,
) -> Iterator[Finding | Unreadable]:
    """Run a detector on images, one batch after the other; every image is decoded once.

    Args:
        detector: Model and image processor.
        sources: What `load_image` takes, as many as there are.
        batch_size: Images that go through the model at once.
        keep: Makes of the image, RGB (H, W, 3), uint8 or (of more than 8 bits) float32 in [0, 1], what is to be kept of it
            as `picture`.
        fields: Maps, features and pictures of the output that are kept, beside the scores.
        num_samples: Weights drawn for the predictive distribution; None: closed form, where a field needs it.

    Yields:
        A `Finding` an image, or `Unreadable` for one that can't be read.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, but got {batch_size}.")
    prepared = read_ahead(lambda source: _prepare(detector.image_processor, source, keep), sources, ahead=batch_size)
    while batch := list(islice(prepared, batch_size)):
        readable = [one for one in batch if isinstance(one, _Prepared)]
        rows = iter(_run(detector, readable, fields, num_samples) if readable else ())
        for one in batch:
            yield next(rows) if isinstance(one, _Prepared) else one


@dataclass(frozen=True)
class _Prepared:
    source: Any
    pixel_values: Tensor
    size: tuple[int, int]
    picture: Picture | None


def _prepare(processor: URANetImageProcessor, source: Any, keep: Keep) -> _Prepared | Unreadable:
    try:
        image = processor.load_pixels(source)
        inputs = processor(image, max_value=None, value_range=None, return_tensors="pt")  # it is in [0, 1] already
    except UserError as error:
        return Unreadable(source, error)
    return _Prepared(source, inputs["pixel_values"], (image.shape[0], image.shape[1]), keep(image))


@torch.inference_mode()
def _run(
    detector: Detector, batch: Sequence[_Prepared], fields: Sequence[str], num_samples: int | None
) -> Iterator[Finding]:
    pixels = torch.cat([one.pixel_values for one in batch]).to(detector.model.device)
    began = time.perf_counter()
    if num_samples is None and not {*fields} & {*LEARNT}:
        num_samples = 0
    pictures = {"return_restored": True} if {*fields} & {*DRAWN} else {}
    output = detector.model(pixels, num_samples=num_samples, return_dict=True, **pictures)
    kept = {
        name: output[name].cpu()
        for name in ("image_score", "score", "strangeness", *fields)
        if output.get(name) is not None
    }
    seconds = time.perf_counter() - began
    processor, config = detector.image_processor, detector.model.config
    for row, one in enumerate(batch):
        own = {name: values[row : row + 1] for name, values in kept.items()}
        yield Finding(one.source, one.size, one.picture, own, processor, config, seconds)
