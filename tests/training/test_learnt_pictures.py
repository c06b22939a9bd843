"""The decoder of pictures is trained on good photos, and nothing else of a run knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_part, made_once, tiny_config
from PIL import Image
from safetensors.torch import load_file

import ura_hf
from ura_hf.hub.load import load_detector
from ura_hf.model.picture import PictureDecoder
from ura_hf.model.pipeline_uranet import URANetPipeline
from ura_hf.training.picture import Pairs, descend, fit_linear, picture_loss

CPU = torch.device("cpu")


def moved_part(seed: int) -> np.ndarray:
    """A good part somewhere in the picture, uint8 (48, 64, 3)."""
    shift = tuple(np.random.default_rng(seed).integers(-5, 6, 2))
    return np.roll(draw_part(seed)[0], shift, (0, 1))


def train(data: Path, output: Path, weights: Path, **fields: object) -> URANetPipeline:
    options = ura_hf.TrainingOptions(data, output, weights, steps=40, batch_size=4, pose="fixed")
    ura_hf.train(options, tiny_config(**fields))
    return load_detector(output, device="cpu")


@pytest.fixture(scope="module")
def moved(tmp_path_factory) -> Path:
    def draw(folder: Path) -> None:
        folder.mkdir()
        for seed in range(24):
            Image.fromarray(moved_part(seed)).save(folder / f"{seed:02d}.png")

    return made_once(tmp_path_factory, "plain/moved", draw)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, moved, resnet18_weights) -> Path:
    return made_once(tmp_path_factory, "checkpoint/moved", lambda output: train(moved, output, resnet18_weights))


def test_nothing_else_of_a_checkpoint_depends_on_the_decoder(folder, moved, resnet18_weights, tmp_path):
    """All other weights, all thresholds and the verdict are the same bit by bit without it."""
    own_detector, other_detector = (
        load_detector(folder, device="cpu"),
        train(moved, tmp_path / "without", resnet18_weights, cell_pixels=0),
    )
    own, other = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "without"))
    assert {name.split(".")[1] for name in own.keys() - other.keys()} == {"decoder"}
    assert other.keys() <= own.keys() and all(torch.equal(own[name], other[name]) for name in other)
    configs = [detector.model.config.to_diff_dict() for detector in (own_detector, other_detector)]
    assert configs[0] | {"cell_pixels": 0} == configs[1]
    photo = draw_part(300, defect=True)[0]
    without, plain, asked = other_detector(photo), own_detector(photo), own_detector(photo, return_restored=True)
    assert plain.keys() == without.keys() == asked.keys() - {"seen_image", "restored_image"}
    for name, value in without.items():
        assert np.array_equal(value, plain[name]) and np.array_equal(value, asked[name]), name


def test_held_out_parts_are_drawn_better_than_by_the_mean_photo(folder):
    detector = load_detector(folder, device="cpu")
    mean = np.mean([moved_part(seed) / 255 for seed in range(24)], axis=0)
    for seed in range(100, 104):
        photo = moved_part(seed) / np.float32(255)
        drawn = detector(photo, return_restored=True)["seen_image"]
        assert drawn.shape == photo.shape and drawn.min() >= 0 and drawn.max() <= 1
        assert np.square(drawn - photo).mean() < 0.5 * np.square(mean - photo).mean(), seed


def test_a_defect_is_gone_from_the_restored_part(checkpoint):
    """A dark spot is redrawn bright: of several, more than half of the difference from the good part is gone."""
    detector = load_detector(checkpoint, device="cpu")
    left, found_at_first = [], []
    for seed in range(300, 308):
        photo, mask = draw_part(seed, defect=True)
        found = detector(photo, return_restored=True)
        seen, restored = (found[name][mask].mean() for name in ("seen_image", "restored_image"))
        good = draw_part(seed)[0][mask].mean() / 255
        left.append(abs(restored - good))
        found_at_first.append(abs(seen - good))
    assert sum(left) < 0.5 * sum(found_at_first)


def test_the_linear_part_is_ridge_regression_around_the_means_of_each_place():
    torch.manual_seed(0)
    decoder = PictureDecoder(3, 2, 2)
    pairs = Pairs(torch.randn(40, 3, 2, 2).half(), torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8))
    weight, bias = fit_linear(decoder, pairs, CPU)
    x = decoder.known(pairs.components.double()).numpy().reshape(40, 4, 27)
    y = decoder.wanted(pairs.pictures.double() / 255).numpy().reshape(40, 4, 12)
    dx, dy = (values - values.mean(0) for values in (x, y))
    squares = np.einsum("npi,npj->ij", dx, dx)
    ridge = 1e-3 * squares.diagonal().mean() * np.eye(27)
    expected = np.linalg.solve(squares + ridge, np.einsum("npi,npj->ij", dx, dy))
    np.testing.assert_allclose(weight.numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(bias.numpy(), y.mean(0) - x.mean(0) @ expected, atol=1e-4)
    decoder.begin(weight, bias, 0)
    drawn = decoder(pairs.components.float())
    rows = torch.from_numpy(x.reshape(160, 27)) @ weight + bias.repeat(40, 1)
    torch.testing.assert_close(decoder.wanted(drawn).double(), rows, atol=1e-4, rtol=1e-4)


def test_the_correction_learns_what_the_linear_part_leaves():
    torch.manual_seed(0)
    decoder = PictureDecoder(3, 4, 2)
    components = torch.randn(16, 3, 4, 4).half()
    wanted = components.float().square().repeat_interleave(2, 2).repeat_interleave(2, 3).clamp(0, 1)
    pairs = Pairs(components, (wanted * 255).byte())
    decoder.begin(*fit_linear(decoder, pairs, CPU), 0)
    before = float(picture_loss(decoder(components.float()), wanted))
    state = torch.get_rng_state()
    descend(decoder, pairs, CPU, 150, 0, lambda *told: None)
    assert torch.equal(torch.get_rng_state(), state)
    assert float(picture_loss(decoder(components.float()), wanted).detach()) < 0.7 * before
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_few_steps_are_enough_to_run(steps):
    decoder = PictureDecoder(3, 4, 2)
    pairs = Pairs(torch.randn(3, 3, 4, 4).half(), torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8))
    decoder.begin(*fit_linear(decoder, pairs, CPU), 0)
    told = []
    descend(decoder, pairs, CPU, steps, 0, lambda *event: told.append(event))
    assert told == [("pictures", step, steps) for step in range(1, steps + 1)]
    assert all(value.isfinite().all() for value in (*decoder.parameters(), *decoder.buffers()))


def test_components_belong_to_pictures_in_turns():
    pairs = Pairs(torch.arange(6.0).view(6, 1, 1, 1).half(), torch.tensor([0, 51, 102]).view(3, 1, 1, 1).byte())
    components, pictures = pairs.batch([1, 4, 5], CPU)
    assert components.flatten().tolist() == [1, 4, 5]
    torch.testing.assert_close(pictures.flatten(), torch.tensor([0.2, 0.2, 0.4]))
