"""Generated inspection images: deterministic, exact masks, and a folder that the reader of datasets takes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

import ura_hf.data.drawn.parts
from ura_hf import UserError
from ura_hf.data.drawn.parts import KINDS, LOGICAL, demo_image, write_demo_data
from ura_hf.data.reader import read_dataset
from ura_hf.model.images import load_mask

EVERY = [(kind, defect) for kind, (_, _, defects) in KINDS.items() for defect in defects]


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_picture(kind):
    first, second, other = demo_image(kind, 3)[0], demo_image(kind, 3)[0], demo_image(kind, 4)[0]
    assert first.dtype == np.uint8 and first.shape == (256, 256, 3)
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert len(KINDS[kind][2]) - len(set(KINDS[kind][2]) & set(LOGICAL)) >= 5


@cache
def good_picture(kind: str, seed: int) -> np.ndarray:
    return demo_image(kind, seed)[0]


@pytest.mark.parametrize(("kind", "defect"), EVERY)
def test_the_mask_is_what_the_defect_changed(kind, defect):
    """Noise is the same with and without the defect, so the pictures differ around the mask and nowhere else."""
    for seed in (7, 8):
        good, (bad, mask) = good_picture(kind, seed), demo_image(kind, seed, defect)
        assert 3e-4 < mask.mean() < 0.2
        difference = np.abs(good.astype(int) - bad).max(2)
        around = ndimage.binary_dilation(mask, iterations=4)
        assert difference[mask].mean() > 8
        assert difference[~around].max() <= 3


def test_good_pictures_have_no_mask():
    assert not demo_image("ring", 0)[1].any()


def test_written_category_is_read_back(tmp_path):
    write_demo_data("ring", tmp_path / "ring", train=3, good=2, each=1, side=64)
    dataset = read_dataset(tmp_path / "ring")
    assert len(dataset.train) == 3 and len(dataset.test) == 2 + len(KINDS["ring"][2])
    for sample in dataset.test:
        if sample.mask is not None:
            assert load_mask(sample.mask, (64, 64)).any()


def test_seeds_share_no_image(tmp_path):
    for seed in (0, 1):
        write_demo_data("ring", tmp_path / str(seed), train=2, good=1, each=0, side=64, seed=seed)
    images = [path.read_bytes() for path in sorted(tmp_path.rglob("*.png"))]
    assert len(images) == len(set(images)) == 6
    with pytest.raises(UserError, match="seed must be at least 0"):
        write_demo_data("ring", tmp_path / "ring", seed=-1)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_stopped_drawing_leaves_nothing(stop, monkeypatch, tmp_path):
    def stopping(kind, seed, defect, side):
        if seed == 1:
            raise stop
        return demo_image(kind, seed, defect, side)

    monkeypatch.setattr(ura_hf.data.drawn.parts, "demo_image", stopping)
    with pytest.raises((KeyboardInterrupt, UserError)):
        write_demo_data("ring", tmp_path / "ring", train=3, good=0, each=0, side=64)
    assert not list(tmp_path.iterdir())


def test_unknown_kind_and_defect(tmp_path):
    with pytest.raises(UserError, match="kind must be one of ring"):
        demo_image("gear", 0)
    with pytest.raises(UserError, match="defect of a ring must be one of"):
        demo_image("ring", 0, "rust")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        write_demo_data("ring", tmp_path / "file" / "ring", 1, 0, 0, 64)
