"""What a whole normal image looks like: the linear subspace of the training images' coarse features. Ours, not the paper's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 8  # of the grid that a level is averaged to
EXPLAINED = 0.97  # share of the training images' variance that the subspace holds, unless its rank is too small for it
MAX_FITTED = 1000  # images it is fitted to
DOUBTED = 100  # images from which on it is trusted more than doubted


class NormalSubspace(nn.Module):
    """Principal components of whole images: a mean grid and up to `rank` directions in which normal images differ from it.

    The memory knows cells and not where they belong; the subspace restores an image as a whole, coarsely. What it can't
    restore is anomalous, and the mean over the image says whether the image is (`docs/method.md`). The same idea as DFM (Ahuja
    et al. 2019), kept as a grid.
    """

    centre: Tensor
    basis: Tensor
    trust: Tensor
    """N / (N + 100) of N different training images: few do not span what normal images are."""
    floor: Tensor
    """Added to every residual, so that copies of training images are as normal as their rounding allows to say."""

    def __init__(self, rank: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(channels * SIDE**2))
        self.register_buffer("basis", torch.zeros(rank, channels * SIDE**2))
        self.register_buffer("trust", torch.zeros(()))
        self.register_buffer("floor", torch.zeros(()))

    @staticmethod
    def coarse(features: Tensor) -> Tensor:
        """One level's features, (B, C, G, G) -> (B, C * 8 * 8), float32, averaged to 8 x 8."""
        return functional.adaptive_avg_pool2d(features.float(), SIDE).flatten(1)

    def distance(self, features: Tensor) -> Tensor:
        """mean_c (X - X^)^2 + floor with X^ = mu + V^T V (X - mu), X coarse: (B, C, G, G) -> (B, 1, 8, 8), float32."""
        basis = self.basis.float()
        offset = self.coarse(features) - self.centre.float()
        left = offset - (offset @ basis.T) @ basis
        return left.unflatten(1, (-1, SIDE, SIDE)).square().mean(1, keepdim=True) + self.floor.float()

    @torch.no_grad()
    def fit(self, images: Tensor, different: int) -> None:
        """Set mean and directions from the `coarse` features of normal images, (N, C * 8 * 8); unneeded directions stay zero.

        `different` is their number without turned copies.
        """
        images = images.double()
        centre = images.mean(0)
        offsets = images - centre
        values, vectors = torch.linalg.eigh(offsets @ offsets.T)  # N is smaller than C * 8 * 8
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        needed = int((values.cumsum(0) < EXPLAINED * values.sum()).sum()) + 1
        count = min(needed, len(self.basis), max(len(images) - 1, 0))
        directions = (offsets.T @ vectors[:, :count]) / values[:count].sqrt().clamp_min(1e-12)
        self.trust.fill_(different / (different + DOUBTED))
        self.floor.fill_(float(1e-3 * offsets.square().mean() + 1e-5 * centre.square().mean()))
        self.centre.copy_(centre)
        self.basis.zero_()
        self.basis[:count] = directions.T.to(self.basis)
