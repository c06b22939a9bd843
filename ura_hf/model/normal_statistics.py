"""Statistics of the good images: of each place (PaDiM, Defard et al. 2021) and of whole images (DFM, Ahuja et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

RIDGE = 0.01  # added to the variances of a place, in units of a channel's variance
PRIOR_CELLS = 3  # as so many cells of a place counts the mean covariance of all places
EXPLAINED_VARIANCE = 0.97  # share of the variance of whole images that their axes explain if the rank allows
IMAGE_SIDE, IMAGE_COMPONENTS = 8, 32  # grid and components that whole images are averaged to


class NormalPlaces(nn.Module):
    """A Gaussian over the leading P components for each of t x t places; the cells of a place share it."""

    centre: Tensor
    whitener: Tensor

    def __init__(self, grid_size: int, components: int, largest_side: int = 32) -> None:
        super().__init__()
        self.side = max(side for side in range(1, largest_side + 1) if grid_size % side == 0)
        self.register_buffer("centre", torch.zeros(self.side**2, components))
        self.register_buffer("whitener", torch.zeros(self.side**2, components, components))

    def split(self, components: Tensor) -> Tensor:
        """Cells by their place, (B, K, G, G) -> (t^2, B (G/t)^2, P), float32."""
        block = components.shape[-1] // self.side
        own = components[:, : self.centre.shape[1]].float()
        own = own.unflatten(3, (self.side, block)).unflatten(2, (self.side, block))  # (B, P, t, b, t, b)
        return own.permute(2, 4, 0, 3, 5, 1).flatten(2, 4).flatten(0, 1)

    def distance(self, components: Tensor) -> Tensor:
        """Squared Mahalanobis distance over P, mean_p (W (x - mu))_p^2: (B, K, G, G) -> (B, 1, G, G), float32."""
        batch, _, grid, _ = components.shape
        offsets = self.split(components) - self.centre.float()[:, None]
        squares = (offsets @ self.whitener.float().transpose(1, 2)).square().mean(-1)
        block = grid // self.side
        cells = squares.view(self.side, self.side, batch, block, block).permute(2, 0, 3, 1, 4)
        return cells.reshape(batch, 1, grid, grid)

    @torch.no_grad()
    def set(self, count: Tensor, total: Tensor, products: Tensor) -> None:
        """From sums over the cells of each place: their number (t^2, 1), of x, (t^2, P), and of x x^T, (t^2, P, P), all float64.

        Covariances are shrunk towards the mean one of all places (regularised discriminant analysis, Friedman 1989).
        """
        mean, freedom = total / count.clamp_min(1), (count - 1).clamp_min(1)[..., None]
        scatter = products - count[..., None] * mean[:, :, None] * mean[:, None, :]
        pooled = scatter.sum(0) / (freedom * (count[..., None] > 0)).sum()
        covariance = (scatter + PRIOR_CELLS * pooled) / (freedom + PRIOR_CELLS)
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        lower = torch.linalg.cholesky(covariance + RIDGE * eye)
        self.centre.copy_(mean)
        self.whitener.copy_(torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False))


class NormalImages(nn.Module):
    """Principal axes of whole images, averaged coarsely; what they leave out of an image is abnormal as a whole."""

    centre: Tensor
    axes: Tensor

    def __init__(self, grid_size: int, components: int, rank: int) -> None:
        super().__init__()
        self.side, self.components = min(IMAGE_SIDE, grid_size), min(IMAGE_COMPONENTS, components)
        self.register_buffer("centre", torch.zeros(self.components * self.side**2))
        self.register_buffer("axes", torch.zeros(rank, self.components * self.side**2))

    def coarse(self, components: Tensor) -> Tensor:
        """Whole images as vectors, (B, K, G, G) -> (B, D), float32."""
        return functional.adaptive_avg_pool2d(components[:, : self.components].float(), self.side).flatten(1)

    def distance(self, components: Tensor) -> Tensor:
        """mean_d (X - X^)^2 with X^ = mu + V^T V (X - mu) of whole images X: (B, K, G, G) -> (B,), float32."""
        axes = self.axes.float()
        offset = self.coarse(components) - self.centre.float()
        return (offset - (offset @ axes.T) @ axes).square().mean(1)

    @torch.no_grad()
    def set(self, images: Tensor) -> None:
        """From the vectors of good images, (N, D); axes that are not needed stay zero."""
        images = images.double()
        centre = images.mean(0)
        offsets = images - centre
        values, vectors = torch.linalg.eigh(offsets @ offsets.T)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        needed = int((values.cumsum(0) < EXPLAINED_VARIANCE * values.sum()).sum()) + 1
        count = min(needed, len(self.axes), len(images) - 1)
        self.centre.copy_(centre)
        self.axes.zero_()
        directions = (offsets.T @ vectors[:, :count]) / values[:count].sqrt().clamp_min(1e-12)
        self.axes[:count] = directions.T.to(self.axes)
