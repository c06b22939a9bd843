"""Uncertainty-integrated anomaly perception: a small Bayesian network over the feature grid (UIAPM of arXiv 2603.22840)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import UserError


class VariationalLinear(nn.Module):
    """Linear layer over channels with a mean-field Gaussian over its weights, prior N(0, prior_std^2).

    Training draws activations by the local reparameterisation trick (Kingma et al. 2015): out ~ N(x mu^T, x^2 (sigma^2)^T).
    """

    def __init__(self, inputs: int, outputs: int, prior_std: float) -> None:
        super().__init__()
        self.prior_std = prior_std
        self.weight_mean = nn.Parameter(torch.empty(outputs, inputs))
        self.weight_log_std = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-uniform means, small standard deviations, zero bias."""
        nn.init.kaiming_uniform_(self.weight_mean, a=math.sqrt(5))
        nn.init.constant_(self.weight_log_std, -5.0)
        nn.init.zeros_(self.bias)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the activations, (..., inputs) -> two of (..., outputs)."""
        mean = functional.linear(x, self.weight_mean, self.bias)
        return mean, functional.linear(x.square(), (2 * self.weight_log_std).exp())

    def forward(self, x: Tensor) -> Tensor:
        """One reparameterised draw, (..., inputs) -> (..., outputs)."""
        mean, variance = self.moments(x)
        return mean + (variance + 1e-8).sqrt() * torch.randn_like(mean)

    def apply_sample(self, x: Tensor, noise: Tensor) -> Tensor:
        """Activations under one weight sample W = mu + sigma * noise, noise (outputs, inputs)."""
        weight = self.weight_mean + self.weight_log_std.exp() * noise.to(self.weight_mean)
        return functional.linear(x, weight, self.bias)

    def kl(self) -> Tensor:
        """KL(q || prior) summed over the weights, a scalar in nats."""
        variance, prior = (2 * self.weight_log_std).exp(), self.prior_std**2
        terms = (variance + self.weight_mean.square()) / prior - 1 + math.log(prior) - 2 * self.weight_log_std
        return 0.5 * terms.sum()


class PlainLinear(nn.Linear):
    """Linear layer with the weights' initialisation of `VariationalLinear` but no distribution over them."""

    def reset_parameters(self) -> None:
        """Kaiming-uniform weights, zero bias."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        nn.init.zeros_(self.bias)


@dataclass
class Perception:
    """The predictive distribution of each cell; every map is (B, 1, G, G), entropies in nats [0, ln 2].

    `total` = H(E[p]), `aleatoric` = E[H(p)], `epistemic` = total - aleatoric, the mutual information of label and weights.
    """

    probability: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def binary_entropy(p: Tensor) -> Tensor:
    """H(p) = -p ln p - (1-p) ln(1-p) in nats, elementwise, p in [0, 1]."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


class AnomalyPerception(nn.Module):
    """Distribution over the anomaly logit of every cell: shared projection, then two variational layers.

    With `bayesian` False these two are plain layers: one prediction without epistemic uncertainty.
    """

    def __init__(self, channels: int, width: int, prior_std: float, bayesian: bool = True) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)
        self.context = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width)
        self._kept: tuple[tuple[int, int], list[list[Tensor]]] | None = None
        sizes = ((width, width), (width, 1))
        self.hidden, self.head = (VariationalLinear(*s, prior_std) if bayesian else PlainLinear(*s) for s in sizes)

    def _embed(self, features: Tensor) -> Tensor:
        own = functional.gelu(self.project(features.movedim(1, -1)))  # (B, G, G, width)
        return self.norm(own + self.context(own.movedim(-1, 1)).movedim(1, -1))

    def forward(self, features: Tensor) -> Tensor:
        """One training draw of the logits, (B, C, G, G) -> (B, 1, G, G)."""
        hidden = functional.gelu(self.hidden(self._embed(features)))
        return self.head(hidden).movedim(-1, 1)

    def predict(self, features: Tensor, num_samples: int, seed: int) -> Perception:
        """Predictive distribution from `num_samples` seeded weight samples; the same inputs give the same maps.

        Weights, not activations, are sampled, so that an image's maps do not depend on its batch.
        """
        if num_samples < 1:
            raise UserError(f"num_samples must be at least 1, but got {num_samples}.")
        layers = self._variational()
        if not layers:
            p = self(features).float().sigmoid()
            entropy = binary_entropy(p)
            return Perception(p, entropy, entropy, torch.zeros_like(entropy))
        embedded = self._embed(features)
        mean_p, mean_entropy = embedded.new_zeros(()), embedded.new_zeros(())
        for noise in self._noise(num_samples, seed):
            hidden = functional.gelu(layers[0].apply_sample(embedded, noise[0]))
            p = layers[1].apply_sample(hidden, noise[1]).movedim(-1, 1).float().sigmoid()
            mean_p, mean_entropy = mean_p + p / num_samples, mean_entropy + binary_entropy(p) / num_samples
        mean_p = mean_p.clamp(0, 1)
        total = binary_entropy(mean_p)
        aleatoric = torch.minimum(mean_entropy, total)
        return Perception(mean_p, total, aleatoric, total - aleatoric)

    def _noise(self, num_samples: int, seed: int) -> list[list[Tensor]]:
        """Noise of every weight sample and layer; kept, so that it is a constant in what `torch.export` makes."""
        kept = self._kept
        if kept is None or kept[0] != (num_samples, seed):
            generator = torch.Generator().manual_seed(seed)
            shapes = [layer.weight_mean.shape for layer in self._variational()]
            with torch.inference_mode(False):
                noise = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(num_samples)]
            kept = self._kept = ((num_samples, seed), noise)
        return kept[1]

    def kl(self) -> Tensor:
        """KL of both variational layers, a scalar in nats; 0 for plain ones."""
        return sum(
            (layer.kl() for layer in self._variational()), start=torch.zeros((), device=self.project.bias.device)
        )

    def _variational(self) -> list[VariationalLinear]:
        return [layer for layer in (self.hidden, self.head) if isinstance(layer, VariationalLinear)]
