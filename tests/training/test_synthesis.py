"""Artificial anomalies: masks of every family and size, sources, and the blend."""

from __future__ import annotations

import math

import pytest
import torch

from ura_hf.model.configuration_uranet import MASK_KINDS
from ura_hf.training import synthesis

CPU = torch.device("cpu")
FAMILIES = [synthesis.large_masks, synthesis.small_masks, synthesis.thin_masks]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# Perlin noise


def test_perlin_noise_vanishes_on_its_lattice():
    """Eight periods over nine points: every point is a lattice point, where gradient noise is zero."""
    noise = synthesis.perlin_noise(9, torch.full((2, 2), 8.0), torch.zeros(2), torch.zeros(2, 2))
    assert noise.shape == (2, 9, 9) and noise.abs().max() < 1e-6
    between = synthesis.perlin_noise(17, torch.full((2, 2), 8.0), torch.zeros(2), torch.zeros(2, 2))
    assert between[:, ::2, ::2].abs().max() < 1e-6 and between[:, 1::2, 1::2].abs().max() > 0.1


def test_perlin_noise_range_and_mean():
    noise = synthesis.perlin_noise(32, torch.full((64, 2), 6.0), torch.rand(64) * math.pi, torch.rand(64, 2))
    assert noise.abs().max() <= math.sqrt(0.5) + 1e-5
    assert noise.abs().max() > 0.4 and abs(noise.mean().item()) < 0.05


def test_perlin_noise_gets_rougher_with_frequency():
    slow, fast = (
        synthesis.perlin_noise(64, torch.full((32, 2), f), torch.zeros(32), torch.rand(32, 2)).diff(dim=2).abs().mean()
        for f in (2.0, 8.0)
    )
    assert fast > 2 * slow


def test_perlin_noise_turns_with_its_angle():
    """One slow axis and one fast one: turned by a right angle they swap."""
    frequency = torch.tensor([[8.0, 1.0]]).repeat(16, 1)
    for angle, steep in ((0.0, 2), (math.pi / 2, 1)):
        noise = synthesis.perlin_noise(64, frequency, torch.full((16,), angle), torch.rand(16, 2))
        along, across = (noise.diff(dim=d).abs().mean() for d in (steep, 3 - steep))
        assert along > 3 * across


def test_perlin_samples_differ():
    noise = synthesis.perlin_noise(16, torch.full((2, 2), 3.0), torch.zeros(2), torch.zeros(2, 2))
    assert not torch.allclose(noise[0], noise[1])


# Masks


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", [2, 3, 8, 32])
def test_masks_are_never_empty_nor_full_by_accident(family, side):
    mask = family(64, side, CPU)
    assert mask.shape == (64, side, side) and mask.dtype == torch.bool
    assert mask.flatten(1).any(1).all()
    assert not mask.flatten(1).all(1).all()


def test_large_masks_cover_three_to_forty_percent():
    share = synthesis.large_masks(256, 32, CPU).flatten(1).float().mean(1)
    assert share.min() > 0.03 - 2 / 1024 and share.max() < 0.4 + 2 / 1024
    assert share.min() < 0.08 and share.max() > 0.35  # the whole range is used


def test_large_masks_fall_everywhere_alike():
    """Also at the centre, where noise whose lattice always had a point there was never large."""
    often = synthesis.large_masks(4000, 16, CPU).float().mean(0)
    assert often.max() - often.min() < 0.06 < often.mean()
    assert (often[7:9, 7:9].mean() - often.mean()).abs() < 0.02


def test_small_masks_go_down_to_one_cell_and_stay_small():
    side = 32
    count = synthesis.small_masks(512, side, CPU).flatten(1).sum(1)
    assert (count == 1).any()
    assert count.max() <= 3 * math.pi * (side / 8 + 0.75) ** 2
    assert count.float().mean() < 0.05 * side**2


def test_small_masks_fall_everywhere():
    assert synthesis.small_masks(2000, 8, CPU).any(0).all()


def test_thin_masks_are_thin():
    """Few cells keep a full 3x3 neighbourhood, against many in large masks; some masks have an extent of many cells."""

    def core(mask: torch.Tensor) -> float:
        full = torch.nn.functional.avg_pool2d(mask[:, None].float(), 3, stride=1) > 0.999
        return (full.sum() / mask.sum()).item()

    thin = synthesis.thin_masks(256, 32, CPU)
    assert core(thin) < 0.05 < 0.2 < core(synthesis.large_masks(256, 32, CPU))
    extent = torch.maximum(thin.any(1).sum(1), thin.any(2).sum(1))
    assert (extent > 8).any()


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_one_family_alone(kind):
    mask, subtle = synthesis.sample_masks(16, 8, {kind: 1.0}, CPU)
    assert mask.shape == (16, 1, 8, 8) and mask.dtype == torch.bool
    assert subtle.shape == (16,) and subtle.all() == (kind == "subtle") and subtle.any() == (kind == "subtle")
    assert mask.flatten(1).any(1).all() == (kind != "empty")
    assert mask.any() == (kind != "empty")


def test_families_are_mixed_by_weight():
    mask, subtle = synthesis.sample_masks(2000, 8, {"empty": 3.0, "small": 0.5, "subtle": 0.5, "large": 0.0}, CPU)
    assert abs((~mask.flatten(1).any(1)).float().mean().item() - 0.75) < 0.04
    assert abs(subtle.float().mean().item() - 0.125) < 0.03
    assert mask[subtle].flatten(1).any(1).all()


def test_subtle_masks_take_every_shape():
    mask, _ = synthesis.sample_masks(400, 32, {"subtle": 1.0}, CPU)
    share = mask.flatten(1).float().mean(1)
    assert (share < 0.01).any() and (share > 0.2).any()


# Sources


def test_self_source_shows_cells_of_another_image():
    features = torch.randn(4, 5, 8, 8)
    cells = [{tuple(cell) for cell in image.flatten(1).T.tolist()} for image in features]
    for _ in range(5):
        out, mask = synthesis.synthesize(features, None, {"self": 1.0}, {"large": 1.0}, 0.0)
        for index, inside in enumerate(mask[:, 0].bool()):
            found = {tuple(cell) for cell in out[index][:, inside].T.tolist()}
            assert found and found <= cells[index - 1]


def test_self_source_of_a_single_image():
    features = torch.randn(1, 5, 8, 8)
    seen = {tuple(cell) for cell in features[0].flatten(1).T.tolist()}
    moved = 0
    for _ in range(8):
        out = synthesis.self_source(features)
        assert {tuple(cell) for cell in out[0].flatten(1).T.tolist()} <= seen
        moved += not torch.equal(out, features)
    assert moved >= 6


def test_noise_source_strengths():
    """Deviation of the added noise: log-uniform from 0.2 to 2, over a channel-wise and a cell-wise part."""
    features = torch.randn(200, 256, 4, 4)
    noise = synthesis.noise_source(features) - features
    strength = noise.flatten(1).std(1)
    assert strength.min() > 0.15 and strength.max() < 2.5
    assert abs(strength.log().mean().item() - math.log(0.2 * 2) / 2) < 0.2
    shared = noise.mean((2, 3)).var(1) / strength.square()  # share of the part that all cells have in common
    assert shared.min() < 0.2 and shared.max() > 0.8


# The blend

CONSTANT = {"texture": 1.0}


def blend(max_blend: float, kind: str, batch: int = 300) -> torch.Tensor:
    """1 - b of each sample: features of 0, textures of 1, so that F~ = (1 - b) M."""
    features, textures = torch.zeros(batch, 3, 8, 8), torch.ones(batch, 3, 8, 8)
    altered, mask = synthesis.synthesize(features, textures, CONSTANT, {kind: 1.0}, max_blend)
    assert (altered[(mask == 0).expand_as(altered)] == 0).all()
    inside = mask.bool().expand_as(altered)
    strength = (altered * mask).amax((1, 2, 3))
    torch.testing.assert_close(altered[inside], strength[:, None, None, None].expand_as(altered)[inside])
    return strength


def test_blend_is_uniform_up_to_its_bound():
    strength = blend(0.8, "small")
    assert strength.min() >= 0.2 - 1e-6 and strength.max() <= 1
    assert strength.min() < 0.25 and strength.max() > 0.95
    assert abs(strength.mean().item() - 0.6) < 0.06


def test_subtle_blend_is_fainter_than_any_other():
    strength = blend(0.8, "subtle")
    assert strength.min() >= 0.1 - 1e-6 and strength.max() <= 0.2 + 1e-6


def test_no_blend_replaces_the_content():
    assert torch.equal(blend(0.0, "small"), torch.ones(300))


@pytest.mark.parametrize("source", ["texture", "self", "noise"])
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_cells_outside_the_mask_stay_bit_for_bit(source, kind):
    features, textures = torch.randn(8, 5, 8, 8), torch.randn(8, 5, 8, 8)
    before = features.clone()
    altered, mask = synthesis.synthesize(features, textures, {source: 1.0}, {kind: 1.0}, 0.8)
    assert torch.equal(features, before)
    assert altered.shape == features.shape and altered.dtype == features.dtype
    assert mask.shape == (8, 1, 8, 8) and mask.dtype == features.dtype and set(mask.unique().tolist()) <= {0.0, 1.0}
    outside = (mask == 0).expand_as(features)
    assert torch.equal(altered[outside], features[outside])
    if source != "self":
        assert (altered != features)[~outside].all()


def test_self_anomalies_change_the_masked_cells():
    features = torch.randn(8, 5, 8, 8)
    altered, mask = synthesis.synthesize(features, None, {"self": 1.0}, {"large": 1.0}, 0.8)
    assert (altered != features)[mask.bool().expand_as(features)].all()


def test_each_sample_gets_its_own_texture():
    textures = torch.arange(1.0, 17).view(16, 1, 1, 1).expand(16, 3, 8, 8)
    sources = {"texture": 1.0, "noise": 1.0}
    altered, mask = synthesis.synthesize(torch.zeros(16, 3, 8, 8), textures, sources, {"large": 1.0}, 0.0)
    constant = [i for i in range(16) if len(altered[i][mask[i].bool().expand(3, 8, 8)].unique()) == 1]
    assert 2 <= len(constant) <= 14  # the rest is noise
    for index in constant:
        assert altered[index].max() == index + 1


def test_no_texture_folder():
    """Without textures their share goes to the other sources, and with no other source to `self`."""
    features = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 4, 8, 8).clone()
    for sources in ({"texture": 5.0, "self": 1.0}, {"texture": 1.0}, {"texture": 1.0, "noise": 0.0}):
        altered, mask = synthesis.synthesize(features, None, sources, {"large": 1.0}, 0.0)
        assert mask.any()
        for index in range(6):
            cells = altered[index][mask[index].bool().expand(4, 8, 8)]
            assert (cells == (index - 1) % 6).all()


def test_a_source_of_weight_zero_is_never_drawn():
    features, textures = torch.zeros(64, 4, 8, 8), torch.ones(64, 4, 8, 8)
    altered, _ = synthesis.synthesize(features, textures, {"texture": 1.0, "noise": 0.0}, {"large": 1.0}, 0.0)
    assert set(altered.unique().tolist()) == {0.0, 1.0}


def test_empty_masks_leave_the_features():
    features = torch.randn(4, 5, 8, 8)
    altered, mask = synthesis.synthesize(features, None, {"noise": 1.0}, {"empty": 1.0}, 0.8)
    assert torch.equal(altered, features) and not mask.any()


def test_a_batch_of_one():
    features = torch.randn(1, 5, 8, 8)
    altered, mask = synthesis.synthesize(features, None, {"self": 1.0, "noise": 1.0}, {"large": 1.0}, 0.8)
    assert altered.isfinite().all() and mask.any()


def test_the_seed_decides():
    features, textures = torch.randn(8, 5, 8, 8), torch.randn(8, 5, 8, 8)

    def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(seed)
        sources = {"texture": 1.0, "self": 1.0, "noise": 1.0}
        return synthesis.synthesize(features, textures, sources, dict.fromkeys(MASK_KINDS, 1.0), 0.8)

    first, again, other = draw(3), draw(3), draw(4)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])


@pytest.mark.parametrize("source", ["texture", "self", "noise"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_keep_their_type(source, dtype):
    features, textures = torch.randn(4, 5, 8, 8).to(dtype), torch.randn(4, 5, 8, 8)
    altered, mask = synthesis.synthesize(features, textures, {source: 1.0}, {"large": 1.0}, 0.8)
    assert altered.dtype == dtype and mask.dtype == dtype


def test_weights_may_be_whole_numbers():
    """As JSON gives them: {"self": 1}."""
    torch.manual_seed(0)
    altered, mask = synthesis.synthesize(torch.randn(4, 8, 8, 8), None, {"self": 1}, {"small": 1}, 0.5)
    assert altered.shape == (4, 8, 8, 8) and mask.any()
