"""Uncertainty-integrated anomaly perception: a small network over the feature grid, whose last layer has a posterior (UIAPM)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import UserError
from .scoring import exactly

NEIGHBOURHOOD = 5  # cells a side that the belief of a cell depends on
FARTHEST = 5.0  # deviations of a logit: beyond, it says the same, and expectations would err
LEAST = 1e-12  # probability that odds are divided by
NODES, REACH = 25, 4.0
"""Evenly spaced nodes within 4 standard deviations: expectations of probability and entropy err by less than 0.001 for logits
that deviate by up to 5, and by less than 0.01 for 10. Nodes of Gauss and Hermite err ten times as much there."""


class PlainLinear(nn.Linear):
    """Linear layer with Kaiming-uniform weights and zero bias."""

    def reset_parameters(self) -> None:
        """Kaiming-uniform weights, zero bias."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        nn.init.zeros_(self.bias)


class PosteriorLinear(PlainLinear):
    """Linear layer to one logit z = w^T x + b, and a Gaussian over the logit that follows from its weights' posterior.

    The mean is the calibrated logit s z + o with `calibration` (s, o). The variance is |R^T (x, 1)|^2, where R R^T is the
    weights' covariance and `root` R is (inputs + 1, inputs + 1). `training.posterior` sets both;
    before, s = 1, o = 0 and R = prior_std I.
    """

    root: Tensor
    calibration: Tensor

    def __init__(self, inputs: int, prior_std: float) -> None:
        super().__init__(inputs, 1)
        self.prior_std = prior_std
        self.register_buffer("root", torch.zeros(inputs + 1, inputs + 1))
        self.register_buffer("calibration", torch.zeros(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `PlainLinear`, with the prior's spread."""
        super().reset_parameters()
        if "calibration" in self._buffers:  # nn.Linear calls this before it is there
            with torch.no_grad():
                nn.init.eye_(self.root).mul_(self.prior_std)
                self.calibration.copy_(torch.tensor([1.0, 0.0]))

    def mean(self, logits: Tensor) -> Tensor:
        """Calibrated logits of trained ones, any shape -> same, float32."""
        return logits.float() * self.calibration[0].float() + self.calibration[1].float()

    def deviation(self, x: Tensor) -> Tensor:
        """Standard deviation |R^T (x, 1)| of the logits, (..., inputs) -> (..., 1), float32."""
        with exactly(x.device.type):
            root = self.root.float()
            return functional.linear(x.float(), root[:-1].T, root[-1]).norm(dim=-1, keepdim=True)

    def sampled(self, x: Tensor, noise: Tensor) -> Tensor:
        """Deviations (x, 1)^T R e of the logits under weights drawn with noise e (T, inputs + 1).

        (..., inputs) -> (..., T), float32.
        """
        drawn = noise.to(self.root.device) @ self.root.float().T
        with exactly(x.device.type):
            return functional.linear(x.float(), drawn[:, :-1], drawn[:, -1])


@dataclass
class Perception:
    """The predictive distribution of each cell; every map is (B, 1, G, G), entropies in nats [0, ln 2].

    `total` = H(E[p]), `aleatoric` = E[H(p)], `epistemic` = total - aleatoric, the mutual information of label and weights.
    """

    probability: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor
    odds: Tensor
    """p / (1 - p) by the same sums, also where p rounds to 1; at most 1e12."""
    logits: Tensor
    """As they were trained, before calibration."""


def binary_entropy(p: Tensor) -> Tensor:
    """H(p) = -p ln p - (1-p) ln(1-p) in nats, elementwise, p in [0, 1]."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


class AnomalyPerception(nn.Module):
    """Distribution over the anomaly logit of every cell: projection, neighbourhood, one hidden layer, and a last layer.

    With `bayesian` the last layer is a `PosteriorLinear`; else it is plain, and there is no epistemic uncertainty.
    """

    def __init__(self, channels: int, width: int, prior_std: float, bayesian: bool = True) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)
        self.context = nn.Conv2d(width, width, NEIGHBOURHOOD, padding=NEIGHBOURHOOD // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.hidden = PlainLinear(width, width)
        self.head = PosteriorLinear(width, prior_std) if bayesian else PlainLinear(width, 1)

    def hide(self, features: Tensor) -> Tensor:
        """What the last layer sees, (B, C, G, G) -> (B, G, G, width); in the type of the weights, which is also the fastest."""
        with exactly(features.device.type):
            own = functional.gelu(self.project(features.movedim(1, -1).to(self.project.weight.dtype)))
            around = self.norm(own + self.context(own.movedim(-1, 1)).movedim(1, -1))
            return functional.gelu(self.hidden(around))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of the mean weights, (B, C, G, G) -> (B, 1, G, G)."""
        return self._logits(features)[1].movedim(-1, 1)

    def _logits(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the last layer sees, and what it says by the mean weights, (B, G, G, width) and (B, G, G, 1)."""
        hidden = self.hide(features)
        with exactly(features.device.type):
            return hidden, self.head(hidden)

    def predict(
        self, features: Tensor, num_samples: int | None = None, seed: int = 0, far: Tensor | None = None
    ) -> Perception:
        """The predictive distribution in one pass, without drawing anything; the same inputs give the same maps.

        A logit is Gaussian, so expectations over it are weighted sums over a few nodes. With `num_samples` they are means over
        weights drawn with `seed` instead, which converge to these sums. `far` (B, 1, G, G), >= 0, is how much farther cells are
        from all good ones than is usual, in deviations: there training had nothing, so up to 5 of them are added to the logit's
        deviation, as those of independent errors add up (distance awareness, Liu et al. 2020).
        """
        if num_samples is not None and num_samples < 1:
            raise UserError(f"num_samples must be at least 1, but got {num_samples}.")
        hidden, trained = self._logits(features)
        if not isinstance(self.head, PosteriorLinear):
            return summarize(trained, trained.float(), torch.ones(1))
        mean = self.head.mean(trained)
        beyond = torch.zeros_like(mean) if far is None else far.movedim(1, -1).float().clamp_max(FARTHEST)
        if num_samples is None:
            nodes, weights = _quadrature()
            deviation = (self.head.deviation(hidden).square() + beyond.square()).sqrt()
            return summarize(trained, mean + deviation * nodes.to(mean.device), weights)
        draw = torch.Generator().manual_seed(seed)
        noise, apart = (torch.randn(num_samples, size, generator=draw) for size in (len(self.head.root), 1))
        weights = torch.full((num_samples,), 1 / num_samples)
        logits = mean + self.head.sampled(hidden, noise) + beyond * apart[:, 0].to(mean.device)
        return summarize(trained, logits, weights)


def _quadrature() -> tuple[Tensor, Tensor]:
    """Nodes and weights, (T,) each, of expectations over the standard normal distribution."""
    nodes = torch.linspace(-REACH, REACH, NODES)
    return nodes, torch.softmax(-nodes.square() / 2, 0)


def summarize(trained: Tensor, logits: Tensor, weights: Tensor) -> Perception:
    """From trained logits (B, G, G, 1), and logits (B, G, G, T) of T settings of the weights that count as `weights` (T,)."""
    p, weights = logits.sigmoid(), weights.to(logits.device)
    with exactly(logits.device.type):  # rounded products would lose small probabilities
        mean_p = (p @ weights).clamp(0, 1)[:, None]
        odds = mean_p / ((-logits).sigmoid() @ weights)[:, None].clamp_min(LEAST)
        total = binary_entropy(mean_p)
        aleatoric = torch.minimum((binary_entropy(p) @ weights)[:, None], total)
    return Perception(mean_p, total, aleatoric, total - aleatoric, odds, trained.movedim(-1, 1))
