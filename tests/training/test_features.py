"""Features kept on disk: found again for the same images, made anew for anything else."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from ura_hf.data.folder import list_images
from ura_hf.data.progress import silent
from ura_hf.model.backbone import Backbone
from ura_hf.model.image_processing_uranet import URANetImageProcessor
from ura_hf.training.features import _read, cached_features


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Backbone("resnet18", (1, 2), 8)


def test_the_folder_is_used_again_and_tells_settings_apart(backbone, category, tmp_path):
    """Other levels of the same network have the same weights and other features."""
    images = list_images(category / "train/good")[:3]
    processor = URANetImageProcessor(size={"height": 64, "width": 64})
    first = cached_features(images, backbone, processor, tmp_path, "training")
    (file,) = tmp_path.glob("*.npy")
    written = file.stat().st_mtime_ns
    assert np.array_equal(cached_features(images, backbone, processor, tmp_path, "training"), first)
    assert [f.stat().st_mtime_ns for f in tmp_path.glob("*.npy")] == [written]
    other = Backbone("resnet18", (2,), 8)
    other.cnn.load_state_dict(backbone.cnn.state_dict())
    found = cached_features(images, other, processor, tmp_path, "training")
    assert found.shape[1] == 128 and np.array_equal(found, first[:, 64:])
    assert cached_features(images[:2], backbone, processor, tmp_path, "training").shape[0] == 2
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_one_photo_at_a_time_is_held_as_it_is_large(backbone, category, tmp_path, monkeypatch):
    images, calls, plain = list_images(category / "train/good")[:3], [], URANetImageProcessor.__call__
    processor = URANetImageProcessor(size={"height": 64, "width": 64})
    together = processor(images, return_tensors="pt")
    monkeypatch.setattr(
        URANetImageProcessor, "__call__", lambda self, image, **more: calls.append(image) or plain(self, image, **more)
    )
    cached_features(images, backbone, processor, tmp_path, "training")
    assert calls == images
    found = _read(images, processor)
    assert all(torch.equal(found[name], together[name]) for name in together)


def test_a_second_run_waits_for_the_first(backbone, category, tmp_path):
    """Both would write the same file; the second one's beginning must not empty what the first has written."""
    images = list_images(category / "train/good")[:4]
    processor = URANetImageProcessor(size={"height": 64, "width": 64})
    alone = cached_features(images, backbone, processor, tmp_path / "alone", "training")
    second = []

    def compute(progress=silent):
        return cached_features(
            images, backbone, processor, tmp_path / "both", "training", progress=progress, batch_size=1
        )

    def begin_second(stage, done, total):
        if done == 2:
            second.append(threading.Thread(target=lambda: second.append(compute())))
            second[0].start()
            second[0].join(0.5)  # time to do harm

    first = compute(begin_second)
    second[0].join()
    assert np.array_equal(first, alone) and np.array_equal(second[1], alone)
