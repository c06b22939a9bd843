"""The Bayesian perception: its moments and its KL against independent computations, and what its maps promise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions

from ura_hf.model.perception import AnomalyPerception, VariationalLinear, binary_entropy


def variational(inputs: int = 5, outputs: int = 3, prior_std: float = 0.4) -> VariationalLinear:
    """A layer whose weights have visible and different deviations."""
    torch.manual_seed(0)
    layer = VariationalLinear(inputs, outputs, prior_std)
    torch.nn.init.normal_(layer.weight_mean)
    torch.nn.init.uniform_(layer.weight_log_std, -2.0, 0.0)
    torch.nn.init.normal_(layer.bias)
    return layer.requires_grad_(False)


def perception(log_std: float = -1.0, width: int = 6) -> AnomalyPerception:
    torch.manual_seed(0)
    model = AnomalyPerception(7, width, 0.1)
    for layer in (model.hidden, model.head):
        torch.nn.init.constant_(layer.weight_log_std, log_std)
    torch.nn.init.normal_(model.head.weight_mean)
    return model.requires_grad_(False)


def embed_by_hand(model: AnomalyPerception, features: torch.Tensor) -> torch.Tensor:
    """LayerNorm of gelu(W f) plus its 5x5 depthwise correlation, zeros outside; (B, C, G, G) -> (B, G, G, d)."""
    own = torch.nn.functional.gelu(features.permute(0, 2, 3, 1) @ model.project.weight.T + model.project.bias)
    padded = torch.nn.functional.pad(own, (0, 0, 2, 2, 2, 2))
    side = own.shape[1]
    around = own + model.context.bias
    for row in range(5):
        for column in range(5):
            around = (
                around + padded[:, row : row + side, column : column + side] * model.context.weight[:, 0, row, column]
            )
    return model.norm(around)


# One layer


def test_moments_by_hand():
    layer, x = variational(), torch.randn(4, 5)
    mean, variance = layer.moments(x)
    sigma = layer.weight_log_std.exp()
    for row in range(4):
        for out in range(3):
            terms = [x[row, i] * layer.weight_mean[out, i] for i in range(5)]
            torch.testing.assert_close(mean[row, out], sum(terms) + layer.bias[out])
            spread = [x[row, i] ** 2 * sigma[out, i] ** 2 for i in range(5)]
            torch.testing.assert_close(variance[row, out], sum(spread))


def test_moments_agree_with_sampled_weights():
    """Mean and variance over 20 000 weight samples, within five standard errors."""
    layer, x, count = variational(), torch.randn(4, 5), 20000
    draws = torch.stack([layer.apply_sample(x, torch.randn(3, 5)) for _ in range(count)])
    mean, variance = layer.moments(x)
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all()
    assert ((draws.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / count)).all()


def test_local_reparameterisation_has_these_moments():
    layer, x, count = variational(), torch.randn(4, 5), 20000
    draws = layer(x.expand(count, 4, 5))
    mean, variance = layer.moments(x)
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all()
    assert ((draws.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / count)).all()
    noise = (draws - mean) / variance.sqrt()
    correlation = (noise[:, 0, 0] * noise[:, 1, 0]).mean().abs()
    assert correlation < 5 / math.sqrt(count)  # each cell draws its own noise


def test_weight_sample_by_hand():
    layer, noise, x = variational(), torch.randn(3, 5), torch.randn(2, 4, 5)
    weight = layer.weight_mean + layer.weight_log_std.exp() * noise
    torch.testing.assert_close(layer.apply_sample(x, noise), x @ weight.T + layer.bias)


@pytest.mark.parametrize("prior_std", [0.05, 0.4, 3.0])
def test_kl_agrees_with_torch(prior_std):
    layer = variational(prior_std=prior_std)
    posterior = distributions.Normal(layer.weight_mean, layer.weight_log_std.exp())
    prior = distributions.Normal(torch.tensor(0.0), torch.tensor(prior_std))
    torch.testing.assert_close(layer.kl(), distributions.kl_divergence(posterior, prior).sum())


def test_kl_is_zero_at_the_prior():
    layer = variational(prior_std=0.3)
    torch.nn.init.zeros_(layer.weight_mean)
    torch.nn.init.constant_(layer.weight_log_std, math.log(0.3))
    assert layer.kl().abs() < 1e-5


def test_kl_of_the_perception_is_the_sum():
    model = perception()
    torch.testing.assert_close(model.kl(), model.hidden.kl() + model.head.kl())


def test_gradients_reach_means_and_deviations():
    layer = VariationalLinear(5, 3, 0.1)
    layer(torch.randn(8, 5)).square().sum().backward()
    for parameter in (layer.weight_mean, layer.weight_log_std, layer.bias):
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0


def test_gradient_stays_finite_at_zero_input():
    layer = VariationalLinear(5, 3, 0.1)
    layer(torch.zeros(2, 5)).sum().backward()
    assert layer.weight_log_std.grad is not None and layer.weight_log_std.grad.isfinite().all()


# Entropy


def test_binary_entropy():
    p = torch.linspace(0.001, 0.999, 101)
    torch.testing.assert_close(binary_entropy(p), distributions.Bernoulli(p).entropy(), atol=1e-6, rtol=1e-5)
    ends = binary_entropy(torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([0.0, math.log(2), 0.0]))


# The predictive distribution


def test_shapes_and_ranges():
    out = perception().predict(torch.randn(3, 7, 4, 4), 8, 0)
    for name in ("probability", "total", "aleatoric", "epistemic"):
        maps = getattr(out, name)
        assert maps.shape == (3, 1, 4, 4) and maps.dtype == torch.float32
        assert maps.min() >= 0 and maps.max() <= (1 if name == "probability" else math.log(2) + 1e-6), name
    torch.testing.assert_close(out.total, binary_entropy(out.probability))
    torch.testing.assert_close(out.aleatoric + out.epistemic, out.total)


def test_prediction_agrees_with_weights_sampled_apart():
    """p, E[H] and their difference from 3000 samples against 3000 others, drawn here through explicit weights."""
    model, features, count = perception(), torch.randn(2, 7, 2, 2), 3000
    embedded = embed_by_hand(model, features)
    draws = []
    for _ in range(count):
        first, second = (
            layer.weight_mean + layer.weight_log_std.exp() * torch.randn_like(layer.weight_mean)
            for layer in (model.hidden, model.head)
        )
        hidden = torch.nn.functional.gelu(embedded @ first.T + model.hidden.bias)
        draws.append((hidden @ second.T + model.head.bias).sigmoid().permute(0, 3, 1, 2))
    p = torch.stack(draws)
    out = model.predict(features, count, 1)
    aleatoric = distributions.Bernoulli(p).entropy().mean(0)
    torch.testing.assert_close(out.probability, p.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(out.aleatoric, aleatoric, atol=0.02, rtol=0)
    torch.testing.assert_close(
        out.epistemic, distributions.Bernoulli(p.mean(0)).entropy() - aleatoric, atol=0.02, rtol=0
    )
    assert out.epistemic.max() > 0.05  # the deviations here leave a disagreement to find


def test_certain_weights_leave_no_epistemic_uncertainty():
    """Without spread in the weights one sample says it all: p is the mean network's, its entropy all aleatoric."""
    model, features = perception(log_std=-20.0), torch.randn(2, 7, 4, 4)
    out = model.predict(features, 4, 0)
    embedded = embed_by_hand(model, features)
    logits = model.head.moments(torch.nn.functional.gelu(model.hidden.moments(embedded)[0]))[0]
    torch.testing.assert_close(out.probability, logits.sigmoid().permute(0, 3, 1, 2))
    assert out.epistemic.max() < 1e-5
    torch.testing.assert_close(out.aleatoric, out.total, atol=1e-5, rtol=0)


def test_one_sample_shows_no_disagreement():
    out = perception().predict(torch.randn(2, 7, 4, 4), 1, 0)
    assert out.epistemic.max() < 1e-6


def test_more_spread_means_more_epistemic_uncertainty():
    features = torch.randn(2, 7, 4, 4)
    narrow, wide = (perception(log_std=s).predict(features, 64, 0).epistemic.mean() for s in (-4.0, -0.5))
    assert wide > 10 * narrow


def test_same_seed_same_maps_whatever_the_global_generator():
    model, features = perception(), torch.randn(2, 7, 4, 4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = model.predict(features, 8, 5)
    assert torch.equal(torch.get_rng_state(), before)  # and it leaves the global generator alone
    torch.manual_seed(2)
    again, other = model.predict(features, 8, 5), model.predict(features, 8, 6)
    for name in ("probability", "total", "aleatoric", "epistemic"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_maps_do_not_depend_on_the_batch():
    model, features = perception(), torch.randn(5, 7, 4, 4)
    together = model.predict(features, 8, 0)
    for index in range(5):
        alone = model.predict(features[index : index + 1], 8, 0)
        for name in ("probability", "total", "epistemic"):
            torch.testing.assert_close(getattr(together, name)[index], getattr(alone, name)[0], atol=1e-6, rtol=0)


def test_a_cell_sees_its_neighbours_and_no_further():
    """A change moves the belief up to two cells away, which tells a normal cell in a wrong place, and nowhere else."""
    model, features = perception(), torch.randn(1, 7, 9, 9)
    changed = features.clone()
    changed[0, :, 4, 3] += 3
    moved = (model.predict(features, 8, 0).probability - model.predict(changed, 8, 0).probability).abs() > 1e-6
    expected = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    expected[0, 0, 2:7, 1:6] = True
    assert torch.equal(moved, expected)


def test_saturated_logits_stay_finite():
    model = perception()
    torch.nn.init.constant_(model.head.bias, 500.0)
    out = model.predict(torch.randn(1, 7, 4, 4), 4, 0)
    assert (out.probability == 1).all() and (out.total == 0).all() and (out.epistemic == 0).all()


def test_training_draw():
    model, features = perception(), torch.randn(3, 7, 4, 4)
    first, second = model(features), model(features)
    assert first.shape == (3, 1, 4, 4) and first.isfinite().all()
    assert not torch.equal(first, second)


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
        p = model.predict(features, 8, 0).probability
    assert p[mask].mean() > 0.8 and p[~mask].mean() < 0.2


# Without distributions over the weights


def test_plain_perception_by_hand():
    """One prediction with all of its entropy aleatoric, whatever the samples and the seed; nothing for KL to hold on to."""
    torch.manual_seed(0)
    model = AnomalyPerception(7, 6, 0.1, bayesian=False).requires_grad_(False)
    features = torch.randn(2, 7, 4, 4)
    hidden = torch.nn.functional.gelu(embed_by_hand(model, features) @ model.hidden.weight.T + model.hidden.bias)
    p = (hidden @ model.head.weight.T + model.head.bias).sigmoid().permute(0, 3, 1, 2)
    out, other = model.predict(features, 8, 0), model.predict(features, 3, 1)
    torch.testing.assert_close(out.probability, p)
    torch.testing.assert_close(out.aleatoric, binary_entropy(p))
    assert torch.equal(out.probability, other.probability) and (out.epistemic == 0).all()
    assert torch.equal(model(features), model(features)) and model.kl() == 0


def test_plain_perception_starts_where_the_bayesian_one_does():
    """Same seed, same first weights: an ablation compares nothing else."""
    models = []
    for bayesian in (False, True):
        torch.manual_seed(0)
        models.append(AnomalyPerception(7, 6, 0.1, bayesian))
    plain, other = models
    assert torch.equal(plain.hidden.weight, other.hidden.weight_mean)
    assert torch.equal(plain.head.weight, other.head.weight_mean)
    assert not plain.hidden.bias.any() and not plain.head.bias.any()
