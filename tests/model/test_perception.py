"""The perception: its logits and its predictive distribution against independent computations, and what its maps promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import distributions

from ura_hf.model.perception import (
    AnomalyPerception,
    Perception,
    PosteriorLinear,
    _quadrature,
    binary_entropy,
    summarize,
)

MAPS = ("probability", "total", "aleatoric", "epistemic")


def perception(spread: float = 0.4, width: int = 6) -> AnomalyPerception:
    """One whose last layer has a posterior with correlations; `spread` scales it."""
    torch.manual_seed(0)
    model = AnomalyPerception(7, width, 0.1)
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head.root, std=spread)
    model.head.calibration.copy_(torch.tensor([1.3, -0.4]))
    return model.requires_grad_(False)


def hidden_by_hand(model: AnomalyPerception, features: torch.Tensor) -> torch.Tensor:
    """The hidden layer over LayerNorm of gelu(W f) plus its 5x5 depthwise correlation, zeros outside; (B, G, G, d)."""
    own = torch.nn.functional.gelu(features.permute(0, 2, 3, 1) @ model.project.weight.T + model.project.bias)
    padded = torch.nn.functional.pad(own, (0, 0, 2, 2, 2, 2))
    side = own.shape[1]
    around = own + model.context.bias
    for row in range(5):
        for column in range(5):
            around = (
                around + padded[:, row : row + side, column : column + side] * model.context.weight[:, 0, row, column]
            )
    return torch.nn.functional.gelu(model.norm(around) @ model.hidden.weight.T + model.hidden.bias)


def moments_by_hand(model: AnomalyPerception, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean s x^T w + o and variance x^T R R^T x of the logits with x = (h, 1), both (B, 1, G, G)."""
    hidden = hidden_by_hand(model, features)
    x = torch.cat([hidden, torch.ones_like(hidden[..., :1])], -1)
    mean = 1.3 * (x @ torch.cat([model.head.weight[0], model.head.bias])) - 0.4
    variance = ((x @ (model.head.root @ model.head.root.T)) * x).sum(-1)
    return mean[:, None], variance[:, None]


# Entropy


def test_binary_entropy():
    p = torch.linspace(0.001, 0.999, 101)
    torch.testing.assert_close(binary_entropy(p), distributions.Bernoulli(p).entropy(), atol=1e-6, rtol=1e-5)
    ends = binary_entropy(torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([0.0, math.log(2), 0.0]))


# The predictive distribution


def test_shapes_and_ranges():
    out = perception().predict(torch.randn(3, 7, 4, 4))
    for name in MAPS:
        maps = getattr(out, name)
        assert maps.shape == (3, 1, 4, 4) and maps.dtype == torch.float32
        assert maps.min() >= 0 and maps.max() <= (1 if name == "probability" else math.log(2) + 1e-6), name
    torch.testing.assert_close(out.total, binary_entropy(out.probability))
    torch.testing.assert_close(out.aleatoric + out.epistemic, out.total)


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.5])
def test_the_moments_are_those_of_adaptive_integration(spread):
    """E[p] and E[H(p)] over the Gaussian logit, by SciPy's integration of every cell."""
    model, features = perception(spread), torch.randn(1, 7, 3, 3)
    out = model.predict(features)
    mean, variance = (values.flatten().tolist() for values in moments_by_hand(model, features))
    for index, (m, v) in enumerate(zip(mean, variance, strict=True)):

        def expected(function, m=m, v=v):
            value = integrate.quad(lambda z: function(m + math.sqrt(v) * z) * stats.norm.pdf(z), -8, 8, limit=200)
            return value[0]

        p = expected(special.expit)
        entropy = expected(lambda z: float(stats.bernoulli(special.expit(z)).entropy()))
        assert float(out.probability.flatten()[index]) == pytest.approx(p, abs=2e-3)
        assert float(out.aleatoric.flatten()[index]) == pytest.approx(entropy, abs=5e-3)


def test_means_of_drawn_weights_converge_to_the_moments():
    """The distance to the closed form falls as one over the root of the number of draws."""
    model, features = perception(), torch.randn(2, 7, 4, 4)
    exact = model.predict(features)

    def error(count: int) -> float:
        runs = [model.predict(features, count, seed) for seed in range(5)]
        gaps = [(getattr(run, name) - getattr(exact, name)).square().mean() for run in runs for name in MAPS]
        return float(torch.stack(gaps).mean().sqrt())

    few, many = error(100), error(10_000)
    assert many < 5e-3 and few / many == pytest.approx(10, rel=0.5)


def test_what_is_far_from_all_good_cells_is_unsure():
    """It adds to the logit's deviation, in the closed form and in what is drawn, and leaves its mean as it is."""
    model, features = perception(0.2), torch.randn(2, 7, 4, 4)
    far = torch.zeros(2, 1, 4, 4)
    far[0, 0, 1, 2] = 3.0
    plain, out, drawn = (
        model.predict(features),
        model.predict(features, far=far),
        model.predict(features, 20_000, far=far),
    )
    changed = (out.epistemic - plain.epistemic).abs() > 1e-6
    assert changed.sum() == 1 and changed[0, 0, 1, 2]
    assert out.epistemic[0, 0, 1, 2] > plain.epistemic[0, 0, 1, 2] + 0.05
    mean, variance = (values.reshape(2, 1, 4, 4)[0, 0, 1, 2] for values in moments_by_hand(model, features))
    nodes = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    wanted = special.expit(float(mean) + math.sqrt(float(variance) + 9) * nodes).mean()
    assert float(out.probability[0, 0, 1, 2]) == pytest.approx(wanted, abs=2e-3)
    for name in MAPS:
        torch.testing.assert_close(getattr(drawn, name), getattr(out, name), rtol=0, atol=0.02)


def test_drawn_weights_by_hand():
    model, features, count = perception(), torch.randn(2, 7, 3, 3), 3
    noise = torch.randn(count, 7, generator=torch.Generator().manual_seed(4))
    hidden, p = hidden_by_hand(model, features), []
    for row in noise:
        drawn = 1.3 * torch.cat([model.head.weight[0], model.head.bias]) + model.head.root @ row
        p.append((hidden @ drawn[:-1] + drawn[-1] - 0.4).sigmoid()[:, None])
    out = model.predict(features, count, 4)
    torch.testing.assert_close(out.probability, torch.stack(p).mean(0))
    torch.testing.assert_close(out.aleatoric, binary_entropy(torch.stack(p)).mean(0))


def test_certain_weights_leave_no_epistemic_uncertainty():
    model, features = perception(0.0), torch.randn(2, 7, 4, 4)
    out = model.predict(features)
    torch.testing.assert_close(out.probability, moments_by_hand(model, features)[0].sigmoid())
    torch.testing.assert_close(out.probability, (1.3 * model(features) - 0.4).sigmoid())
    torch.testing.assert_close(out.logits, model(features))
    assert out.epistemic.max() < 1e-6


def test_more_spread_means_more_epistemic_uncertainty():
    features = torch.randn(2, 7, 4, 4)
    narrow, wide = (perception(spread).predict(features).epistemic.mean() for spread in (0.04, 0.4))
    assert wide > 10 * narrow


def test_without_data_the_posterior_is_the_prior():
    head = PosteriorLinear(3, 0.5)
    torch.testing.assert_close(head.deviation(torch.zeros(1, 3)), torch.tensor([[0.5]]))
    torch.testing.assert_close(head.deviation(torch.tensor([[2.0, 1.0, 2.0]])), torch.tensor([[0.5 * 10**0.5]]))


def test_the_same_image_has_the_same_maps_bit_for_bit():
    """Whatever the global generator, which is left alone; draws differ by their seed alone."""
    model, features = perception(), torch.randn(2, 7, 4, 4)

    def equal(one: Perception, other: Perception) -> bool:
        return all(torch.equal(getattr(one, name), getattr(other, name)) for name in MAPS)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, drawn = model.predict(features), model.predict(features, 8, 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert equal(first, model.predict(features)) and equal(drawn, model.predict(features, 8, 5))
    assert not equal(drawn, model.predict(features, 8, 6)) and not equal(first, drawn)


def test_maps_do_not_depend_on_the_batch():
    model, features = perception(), torch.randn(5, 7, 4, 4)
    together = model.predict(features)
    for index in range(5):
        alone = model.predict(features[index : index + 1])
        for name in ("probability", "total", "epistemic"):
            torch.testing.assert_close(getattr(together, name)[index], getattr(alone, name)[0], atol=1e-6, rtol=0)


def test_a_cell_sees_its_neighbours_and_no_further():
    """A change moves the belief up to two cells away, which tells a normal cell in a wrong place, and nowhere else."""
    model, features = perception(), torch.randn(1, 7, 9, 9)
    changed = features.clone()
    changed[0, :, 4, 3] += 3
    moved = (model.predict(features).probability - model.predict(changed).probability).abs() > 1e-6
    expected = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    expected[0, 0, 2:7, 1:6] = True
    assert torch.equal(moved, expected)


def test_saturated_logits_stay_finite():
    model = perception()
    torch.nn.init.constant_(model.head.bias, 500.0)
    out = model.predict(torch.randn(1, 7, 4, 4))
    torch.testing.assert_close(out.probability, torch.ones_like(out.probability))
    assert out.total.isfinite().all() and out.total.max() < 1e-5 and out.epistemic.max() < 1e-5


# Training


@pytest.mark.parametrize("mean", [-12.0, 0.0, 9.0, 22.0])
def test_odds_lose_no_digits_where_probabilities_round_to_one(mean):
    """By float64 over the same nodes; in float32 1 - p has lost all its digits at a logit of 17."""
    nodes, weights = _quadrature()
    found = summarize(torch.zeros(1, 1, 1, 1), (mean + 0.5 * nodes).view(1, 1, 1, -1), weights)
    p = torch.sigmoid(mean + 0.5 * nodes.double())
    q = torch.sigmoid(-mean - 0.5 * nodes.double())
    wanted = (p @ weights.double()) / (q @ weights.double())
    assert found.odds.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_gradient_reaches_every_weight():
    model = AnomalyPerception(7, 6, 0.1)
    model(torch.randn(2, 7, 4, 4)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_learns_a_mask():
    """Sixty steps suffice to tell shifted cells from the rest."""
    torch.manual_seed(0)
    model = AnomalyPerception(7, 16, 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    mask = torch.rand(16, 1, 4, 4) < 0.3
    features = torch.randn(16, 7, 4, 4) + 2 * mask
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(features), mask.float()).backward()
        optimizer.step()
    with torch.no_grad():
        p = model.predict(features).probability
    assert p[mask].mean() > 0.8 and p[~mask].mean() < 0.2


# Without a posterior


def test_plain_perception_by_hand():
    """One prediction with all of its entropy aleatoric, whatever the draws and the seed."""
    torch.manual_seed(0)
    model = AnomalyPerception(7, 6, 0.1, bayesian=False).requires_grad_(False)
    features = torch.randn(2, 7, 4, 4)
    p = (hidden_by_hand(model, features) @ model.head.weight.T + model.head.bias).sigmoid().permute(0, 3, 1, 2)
    out, other = model.predict(features), model.predict(features, 3, 1)
    torch.testing.assert_close(out.probability, p)
    torch.testing.assert_close(out.aleatoric, binary_entropy(p))
    assert torch.equal(out.probability, other.probability) and (out.epistemic == 0).all()


def test_plain_perception_starts_where_the_other_one_does():
    """Same seed, same first weights: an ablation compares nothing else."""
    models = []
    for bayesian in (False, True):
        torch.manual_seed(0)
        models.append(AnomalyPerception(7, 6, 0.1, bayesian))
    plain, other = models
    assert torch.equal(plain.hidden.weight, other.hidden.weight) and not plain.head.bias.any()
    torch.testing.assert_close(plain.context.weight, other.context.weight)
