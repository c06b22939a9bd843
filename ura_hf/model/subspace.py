"""The linear subspace of whole normal images, fitted to their coarse features. Ours, not the paper's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 8  # of the grid that a level is averaged to
EXPLAINED_VARIANCE = 0.97  # share of the training images' variance that the subspace explains if its rank allows
MAX_FITTED = 1000  # images that the subspace is fitted to
IMAGES_FOR_HALF_TRUST = 100


class NormalSubspace(nn.Module):
    """Principal components of whole images: a mean grid and up to `rank` directions in which normal images differ from it.

    The memory does not know where a cell belongs. The subspace restores an image as a whole, coarsely. What it can't restore
    is anomalous, and the mean over the image is a score of the image (`docs/method.md`). DFM (Ahuja et al. 2019) has the same
    idea without the grid.
    """

    centre: Tensor
    basis: Tensor
    trust: Tensor
    """N / (N + 100) for N different training images: a subspace of few images counts less."""
    floor: Tensor
    """Added to every residual, so that copies of training images score alike to within rounding error."""

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

        `different` is the number of images without turned copies.
        """
        images = images.double()
        centre = images.mean(0)
        offsets = images - centre
        values, vectors = torch.linalg.eigh(offsets @ offsets.T)  # N is smaller than C * 8 * 8
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        needed = int((values.cumsum(0) < EXPLAINED_VARIANCE * values.sum()).sum()) + 1
        count = min(needed, len(self.basis), max(len(images) - 1, 0))
        directions = (offsets.T @ vectors[:, :count]) / values[:count].sqrt().clamp_min(1e-12)
        self.trust.fill_(different / (different + IMAGES_FOR_HALF_TRUST))
        self.floor.fill_(float(1e-3 * offsets.square().mean() + 1e-5 * centre.square().mean()))
        self.centre.copy_(centre)
        self.basis.zero_()
        self.basis[:count] = directions.T.to(self.basis)
