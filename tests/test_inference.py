"""The one loop from images to results, that prediction, batches, evaluation and page share."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from ura_hf import UserError
from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.prefetch import reading_workers
from ura_hf.hub.load import load_detector
from ura_hf.inference import Finding, Pair, Unreadable, find
from ura_hf.model.images import load_image

MAPS = ("score_map", "anomaly_map")


@pytest.fixture(scope="module")
def detector():
    return load_detector("uranet-demo-ring")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Seven rings, of several sizes and formats."""
    folder = tmp_path_factory.mktemp("rings")
    paths = [folder / f"{index}.{'png' if index % 2 else 'bmp'}" for index in range(7)]
    for index, path in enumerate(paths):
        picture = demo_image("ring", 900 + index, "scratch" if index % 3 == 0 else None, side=64)[0]
        Image.fromarray(picture).resize((64 + 8 * index, 64)).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch):
    """Counts the files that are decoded."""
    opened, plain = [], Image.open

    def counting(source, *arguments, **keywords):
        if isinstance(source, io.BytesIO):
            opened.append(source.getvalue())
        return plain(source, *arguments, **keywords)

    monkeypatch.setattr(Image, "open", counting)
    return opened


class Counting:
    """A model that notes how many images come at once."""

    def __init__(self, model):
        self.model, self.device, self.config, self.batches = model, model.device, model.config, []

    def __call__(self, pixels, **arguments):
        self.batches.append(len(pixels))
        return self.model(pixels, **arguments)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_order_is_kept_and_every_image_is_decoded_once(detector, files, tmp_path, decoded, batch_size):
    text = tmp_path / "text.png"
    text.write_text("no image")
    absent = tmp_path / "absent.png"
    array = demo_image("ring", 950, side=64)[0]
    sources = [files[0], text, files[1], array, absent, files[2]]
    found = list(find(detector, sources, batch_size))
    assert all(one.source is source for one, source in zip(found, sources, strict=True))
    assert [isinstance(one, Unreadable) for one in found] == [False, True, False, False, True, False]
    assert "not an image" in str(found[1].error) and "not found" in str(found[4].error)
    assert sorted(decoded) == sorted(path.read_bytes() for path in (*files[:3], text))


def test_batches_are_of_the_size_that_was_asked_for_and_change_no_result(detector, files, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    sources = [*files[:4], tmp_path / "text.png", *files[4:]]
    counting = Counting(detector.model)
    together = list(find(Pair(counting, detector.image_processor), sources, 3, fields=MAPS))
    assert counting.batches == [3, 2, 2]  # the unreadable image leaves its place empty
    alone = list(find(detector, sources, fields=MAPS))
    for one, other in zip(together, alone, strict=True):
        if isinstance(one, Unreadable):
            assert isinstance(other, Unreadable)
            continue
        assert one.size == other.size and one.raw_score == pytest.approx(other.raw_score, rel=1e-4)
        first, second = one.verdict(), other.verdict()
        assert first["label"] == second["label"] and first["score"] == pytest.approx(second["score"], rel=1e-4)
        for name in MAPS:
            assert one.map(name).shape == one.size
            np.testing.assert_allclose(one.map(name), other.map(name), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_reading_ahead_never_runs_away(detector, batch_size):
    """Of sources without an end, a camera's, only as many are taken as are needed and being read."""
    array, taken = demo_image("ring", 0, side=64)[0], itertools.count()
    given = []

    def camera():
        for number in taken:
            given.append(number)
            yield array

    results = find(detector, camera(), batch_size, fields=())
    assert not given  # nothing is read before it is asked for
    for count in range(1, 10):
        next(results)
        batches = -(-count // batch_size)  # and the next one is read while the model works
        assert len(given) <= (batches + 1) * batch_size + reading_workers()
    results.close()


def test_what_is_kept_of_an_image(detector, files):
    (plain,) = find(detector, files[:1])
    assert plain.picture is None
    (kept,) = find(detector, files[:1], keep=lambda image: image[::2], fields=("score_map",))
    assert kept.picture.dtype == np.uint8  # as it is stored
    assert np.array_equal(kept.picture, np.rint(255 * load_image(files[0])[::2]))
    assert set(kept.output) == {"image_score", "score", "strangeness", "score_map"}
    assert all(len(value) == 1 and value.device.type == "cpu" for value in kept.output.values())


def test_a_finding_says_what_the_pipeline_says(detector, files):
    (one,) = find(detector, files[3:4])
    wanted = detector(str(files[3]))
    verdict = one.verdict(maps=MAPS)
    assert isinstance(one, Finding) and one.seconds > 0
    assert (verdict["label"], verdict["score"]) == (wanted["label"], pytest.approx(wanted["score"], rel=1e-5))
    assert verdict["image_score"] == one.raw_score == pytest.approx(wanted["image_score"], rel=1e-5)
    for name in ("image_threshold", "pixel_threshold"):
        assert verdict[name] == one.thresholds[name] == wanted[name]
    np.testing.assert_allclose(verdict["score_map"], wanted["score_map"], rtol=1e-4, atol=1e-6)
    assert (
        one.verdict(maps=MAPS, size=(20, 30))["anomaly_map"].shape == one.map("anomaly_map", (20, 30)).shape == (20, 30)
    )


def test_samples_are_passed_on(detector, files):
    few, many = (next(iter(find(detector, files[:1], num_samples=count))) for count in (1, 8))
    assert not torch.equal(few.output["anomaly_probability"], many.output["anomaly_probability"])


def test_a_batch_needs_an_image(detector, files):
    with pytest.raises(UserError, match="batch_size must be at least 1, but got 0"):
        next(find(detector, files, 0))
    assert list(find(detector, [])) == []
