"""What the page keeps of an image, and what it shows of it: numbers, words and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.files import ASSETS
from ura_hf.demo import downloads, maps, render
from ura_hf.demo.analysis import Analysis, Shelf, View, analyse
from ura_hf.demo.examples import opens_with, opens_with_verdict
from ura_hf.demo.maps import maps_html
from ura_hf.demo.store import Detectors
from ura_hf.demo.tabs.detect_layout import restored_html
from ura_hf.hub.load import load_detector
from ura_hf.model.errors import UserError
from ura_hf.model.image_processing_uranet import MAPS
from ura_hf.model.images import load_image

RING = "uranet-demo-ring"


@pytest.fixture(scope="module")
def store():
    return Detectors()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A file with a scratched ring, wider than high."""
    path = tmp_path_factory.mktemp("images") / "scratch.png"
    picture = Image.fromarray(demo_image("ring", 50_001, "scratch")[0])
    picture.resize((320, 256), Image.Resampling.BILINEAR).save(path)
    return path


@pytest.fixture(scope="module")
def found(store, scratch) -> Analysis:
    return analyse(store.get(RING), str(scratch), RING)


def test_an_analysis_is_that_of_the_pipeline(store, scratch, found):
    expected = store.get(RING)(str(scratch))
    summary = found.summary()
    assert summary["label"] == expected["label"] and summary["score"] == pytest.approx(expected["score"])
    assert summary["image_size"] == [256, 320] and summary["file"] == "scratch.png"
    for name in MAPS:
        np.testing.assert_allclose(found.map(name, (256, 320)), expected[name], rtol=1e-5, atol=1e-7)
    assert found.picture.shape == (512, 640, 3)
    assert summary["anomalous_fraction"] == pytest.approx((expected["score_map"] > 0.5).mean(), abs=2e-3)


def test_the_threshold_changes_verdict_and_regions_alone(found):
    strict, lenient = found.summary(0.3), found.summary(0.9)
    assert (strict["label"], lenient["label"]) == ("anomalous", "review") and strict["score"] == lenient["score"]
    assert strict["regions"] and not lenient["regions"]


def test_a_shelf_computes_once_and_keeps_the_newest(store, tmp_path):
    computed = []

    def infer(image: str, checkpoint: str, session: str | None) -> Analysis:
        computed.append(image)
        return analyse(store.get(checkpoint, session), image, checkpoint)

    (tmp_path / "shelf").mkdir()
    shelf = Shelf(tmp_path / "shelf", store, infer, kept=2)
    paths = []
    for seed in range(3):
        Image.fromarray(demo_image("ring", seed)[0]).save(tmp_path / f"{seed}.png")
        paths.append(str(tmp_path / f"{seed}.png"))
    keys = [shelf.predict(path, RING)[0] for path in paths]
    assert len(set(keys)) == 3 and len(computed) == 3
    again = shelf.predict(paths[2], RING)[1]
    direct = analyse(store.get(RING), paths[2], RING)
    assert len(computed) == 3 and np.array_equal(again.picture, direct.picture)
    assert all(np.array_equal(again.maps[name], direct.maps[name]) for name in MAPS)
    assert len(list((tmp_path / "shelf").iterdir())) == len(shelf.files) == 2
    with pytest.raises(UserError, match="check the image again"):
        shelf.get(keys[0])


def test_every_picture_has_a_fixed_scale_a_legend_and_an_alternative_text(found):
    page = maps_html(found, 0.5)
    assert page.count("<figure") == page.count("<img") == 7 and page.count('alt="') == 7
    assert page.count("legend-bar") == 5 and page.count("legend-note") == 2
    assert "http" not in page
    assert page.index("total_uncertainty") < page.index("<details") < page.index("aleatoric_uncertainty")


def test_places_above_the_threshold_are_outlined(found):
    """In the maps of how likely and how sure, not in the residual map; nothing is said of lines where there are none."""
    page, without = maps_html(found, 0.5), maps_html(found, 0.95)
    assert "above 0.5 in the heatmap" in page and "in the heatmap." not in without
    outlined_maps = ("anomaly_probability", "total_uncertainty", "aleatoric_uncertainty", "epistemic_uncertainty")
    for name, outlined in (*((name, True) for name in outlined_maps), ("anomaly_map", False)):
        one, other = (whole.split(f'id="{name}"')[1].split(" alt=")[0] for whole in (page, without))
        assert (one != other) == outlined


def test_the_figure_has_fixed_scales_and_outlines(found):
    """Beside the pictures a map each of the residual, how likely and how sure; lines round the regions in the last two."""
    panels = {panel.get_title(): panel for panel in downloads.sheet(found, View(0.5, 0.85)).axes if panel.get_title()}
    names = {"Residual map: raw": maps.RESIDUAL, "How likely: probability": maps.LIKELY}
    names["How sure: uncertainty in nats"] = maps.SURE
    assert {"Image", "Heatmap, threshold 0.5", "Restored features", *names} <= {*panels}
    for title, figure in names.items():
        values, top = maps.scaled_map(found, figure.name)
        shown = panels[title].images[0]
        assert np.array_equal(shown.get_array(), values) and shown.get_clim() == (0, top)
        assert bool(panels[title].collections) == (figure is not maps.RESIDUAL)
    without = downloads.sheet(found, View(0.95, 0.85))
    assert not any(panel.collections for panel in without.axes if panel.get_title())


def test_the_restored_photo_has_the_geometry_of_the_photo(checkpoint, scratch):
    """Both pictures of the slider are as large as the photo, and differ where a defect is."""
    with_decoder = analyse(load_detector(checkpoint, device="cpu"), str(scratch), "disc")
    assert with_decoder.features.shape == with_decoder.restored.shape == (64, 64, 3)
    assert with_decoder.drawn(with_decoder.restored).shape == with_decoder.picture.shape == (512, 640, 3)
    assert "decoded" not in with_decoder.summary()
    assert "Drag the handle" in restored_html(with_decoder.about["decoded"])
    page = maps_html(with_decoder, 0.5)
    assert page.count("<figure") == 7 and page.count("legend-note") == 2 and "pixelated" not in page


def test_a_checkpoint_without_a_decoder_says_so(without_decoder, scratch):
    old = analyse(load_detector(without_decoder, device="cpu"), str(scratch), "disc")
    assert old.features.shape == (8, 8, 3) and "pixelated" in maps_html(old, 0.5)
    assert "no restored photo" in restored_html(old.about["decoded"])


def test_a_good_part_stays_calm(store, tmp_path):
    Image.fromarray(demo_image("ring", 70_000)[0]).save(tmp_path / "good.png")
    good = analyse(store.get(RING), str(tmp_path / "good.png"), RING)
    assert np.array_equal(render.overlay(good, 0.5, 0.85), good.picture)
    assert "nothing to list" in render.regions_html(good.summary())


def test_regions_are_outlined_and_numbered(found):
    plain, drawn = found.picture.astype(int), render.overlay(found, 0.5, 0.0).astype(int)
    _, labels = found.regions(0.5)
    near = np.abs(drawn - plain).max(2) > 0
    assert near.any() and not near[labels > 0].all()
    assert (drawn[near] == 255).all(1).any() and (drawn[near] == 16).all(1).any()


@pytest.mark.parametrize("kind", downloads.FILES)
def test_downloads_of_odd_shapes(store, tmp_path, kind):
    """A very wide image of few pixels can be written as well."""
    Image.fromarray(np.zeros((1, 300), np.uint8)).save(tmp_path / "line.png")
    line = analyse(store.get(RING), str(tmp_path / "line.png"), RING)
    assert line.map("score_map", (1, 300)).shape == (1, 300)
    assert load_image(str(tmp_path / "line.png")).shape[:2] == tuple(line.about["image_size"])
    assert Path(downloads.write(kind, line, View(), tmp_path)).stat().st_size > 100


def summary(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "label": "anomalous",
        "score": 0.7,
        "threshold": 0.5,
        "review": 0.42,
        "rank_words": "as unusual as 1 in 300 good parts",
        "regions": [{"box": (1, 2, 3, 4), "area": 1234, "peak_score": 0.8, "uncertainty": 0.1}],
        "anomalous_fraction": 0.02,
        "checkpoint": "<b>x</b>",
        "milliseconds": 61.7,
        "device": "CPU, 2 threads",
    }
    return {**base, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ["Anomalous", "One place stands out", "0.700", "2.0 % of the pixels", "62 ms on CPU, 2 threads"]),
        ({"regions": []}, ["No single place"]),
        ({"anomalous_fraction": 0.96}, ["Most of the picture stands out"]),
        ({"label": "normal", "regions": [], "anomalous_fraction": 0.0}, ["Normal", "No pixel lies"]),
        ({"label": "normal"}, ["not enough for a verdict"]),
        ({"label": "unknown"}, ["Not a part", "&lt;b&gt;x&lt;/b&gt;"]),
        ({"label": "review"}, ["Look at it", "close below the threshold", "as unusual as 1 in 300 good parts"]),
        ({"rank_words": None}, ["threshold <b>0.5</b></p>"]),
        ({"anomalous_fraction": 1e-6}, ["Less than 0.1 %"]),
        ({"threshold": 0.95, "milliseconds": 2100}, ["0.95 threshold", "2.1 s"]),
    ],
)
def test_the_words_of_the_verdict(changes, said):
    card = render.verdict_html(summary(**changes))
    assert all(words in card for words in said) and "<b>x</b>" not in card


@pytest.mark.parametrize("name", ["uranet-elpv-mono", "uranet-elpv-poly"])
def test_the_verdict_that_the_page_opens_with_is_the_live_one(name):
    pytest.importorskip("elpv_dataset")
    known = opens_with_verdict(ASSETS / name)
    live = analyse(load_detector(name, device="cpu"), opens_with(name), name).summary()
    assert known["label"] == live["label"] and known["score"] == pytest.approx(live["score"], abs=1e-3)
    assert known.keys() == live.keys() - {"device", "milliseconds"}
    card = render.verdict_html(known)
    assert "being checked again" in card and "Took" not in card


def test_a_checkpoint_made_without_opens_with_no_verdict(tmp_path):
    assert opens_with_verdict(tmp_path) is None


def test_the_table_of_regions_is_short():
    many = render.regions_html(summary(regions=summary()["regions"] * 12))
    assert many.count("<tr>") == 1 + render.LISTED and "and 4 more" in many
    assert ">unsure<small>0-0.69</small>" in many  # what that is, its tooltip says


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (0.1234, "0.123"),
        (0.49996, "0.49996"),
        (0.5, "0.500"),
        (0.50004, "0.50004"),
        (1e-5, "below 0.001"),
        (0.99999, "above 0.999"),
    ],
)
def test_a_score_never_rounds_onto_the_threshold(score, shown):
    assert render.format_score(score) == shown
