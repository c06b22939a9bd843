"""What is normal for a part, in closed form: one projection of cells, and four views of how far an image is from it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .backbone import LARGEST
from .memory import NormalMemory
from .normal_statistics import NormalImages, NormalPlaces
from .region import Region
from .scoring import exactly


class NormalViews(nn.Module):
    """F = P c + r: components c of features F for all parts of the network, and the remainder r that no good cell has.

    The axes P are the leading principal axes of the good images' cells. The views of an image are squared residuals:

    - ``memory``: F against its nearest good cell, |c - m|^2 + |r|^2, per channel;
    - ``place``: c against the Gaussian of its place, per component;
    - ``remainder``: |r|^2, per channel;
    - ``image``: the whole image against the axes of good images, one number.

    Checkpoints hold memory, places and images as float16, and `round` makes them so before anything is measured with them.
    """

    axes: Tensor
    scale: Tensor

    def __init__(
        self,
        channels: int,
        grid_size: int,
        components: int,
        place_components: int,
        cells: int,
        image_rank: int,
        region: Region | None = None,
    ) -> None:
        super().__init__()
        self.region = region or Region(None, grid_size)
        width = min(components, channels)
        self.register_buffer("axes", torch.zeros(channels, width))
        self.register_buffer("scale", torch.ones(()))
        self.memory = NormalMemory(cells, width)
        self.places = NormalPlaces(grid_size, min(place_components, width))
        self.images = NormalImages(grid_size, width, image_rank)
        for part in self._rounded():
            part.register_state_dict_post_hook(in_half)

    def _rounded(self) -> tuple[nn.Module, ...]:
        return self.memory, self.places, self.images

    @property
    def components(self) -> int:
        """Number of components K."""
        return self.axes.shape[1]

    def project(self, features: Tensor) -> Tensor:
        """Components c of standardised features, (B, C, G, G) -> (B, K, G, G), float32."""
        with exactly(features.device.type):
            return torch.einsum("bcyx,ck->bkyx", features.float(), self.axes.float())

    def standardize(self, components: Tensor) -> Tensor:
        """Components over their root mean square on good images, (B, K, G, G) -> same, in the type of the weights."""
        return (components / self.scale).to(self.scale.dtype)

    def unstandardize(self, standardized: Tensor) -> Tensor:
        """Inverse of `standardize`, (B, K, G, G) -> same."""
        return standardized * self.scale

    def features(self, components: Tensor) -> Tensor:
        """Features of components, without a remainder: (B, K, G, G) -> (B, C, G, G)."""
        return torch.einsum("bkyx,ck->bcyx", components, self.axes)

    def look(self, features: Tensor, components: Tensor | None = None) -> dict[str, Tensor]:
        """The views of standardised features (B, C, G, G), >= 0: maps (B, 1, G, G), and ``image`` (B,); float32.

        `components` are those of the features, where they have been made already.
        """
        features, channels = features.float(), features.shape[1]
        components = self.project(features) if components is None else components
        with exactly(features.device.type):
            square = features.square().sum(1, keepdim=True)
            remainder = (square - components.square().sum(1, keepdim=True)).clamp_min(0)
            return {
                "memory": (self.memory.distance(components) + remainder) / channels,
                "place": self.places.distance(components),
                "remainder": remainder / channels,
                "image": self.images.distance(self.region.fill(components)),
            }

    @torch.no_grad()
    def set_axes(self, cells: Tensor) -> None:
        """The leading principal axes of good cells (n, C) around the origin, and the root mean square along them."""
        cells = cells.double()
        values, vectors = torch.linalg.eigh(cells.T @ cells / len(cells))
        width = self.components
        self.axes.copy_(vectors.flip(1)[:, :width])
        self.scale.copy_(values[-width:].clamp_min(0).mean().sqrt().clamp_min(1e-5))

    @torch.no_grad()
    def round(self) -> None:
        """Make memory, places and images what a checkpoint holds of them."""
        for part in self._rounded():
            for values in part.buffers():
                values.copy_(values.clamp(-LARGEST, LARGEST).half())


def in_half(part: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Hook of a module: what it holds as float32 goes into files as float16."""
    for name, values in (*part.named_buffers(), *part.named_parameters()):
        if values.dtype == torch.float32:
            state[prefix + name] = state[prefix + name].half()
