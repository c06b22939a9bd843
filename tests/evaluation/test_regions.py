"""Regions of a score map, and the rule that tells a part of another kind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ura_hf.data.drawn.parts import KINDS, demo_image
from ura_hf.evaluation.regions import find_regions
from ura_hf.hub.load import load_detector
from ura_hf.model.errors import UserError


def test_regions_by_hand():
    """Two places, one of them joined at a corner: boxes, areas, peaks and mean uncertainty, highest peak first."""
    score, doubt = np.full((6, 8), 0.2), np.zeros((6, 8))
    score[0, 0] = score[1, 1] = 0.6
    score[3:5, 4:7] = 0.7
    score[4, 5] = 0.9
    doubt[3:5, 4:7] = 0.3
    regions, labels = find_regions(score, doubt, 0.5)
    assert [region.box for region in regions] == [(4, 3, 3, 2), (0, 0, 2, 2)]
    assert [region.area for region in regions] == [6, 2]
    assert [region.peak_score for region in regions] == [0.9, 0.6]
    assert regions[0].uncertainty == pytest.approx(0.3) and regions[1].uncertainty == 0
    assert labels[4, 5] == 1 and labels[0, 0] == labels[1, 1] == 2 and labels[2, 2] == 0


def test_regions_are_scaled_to_the_image():
    score = np.zeros((10, 10))
    score[2:4, 5:10] = 0.8
    regions, _ = find_regions(score, score, 0.5, (200, 1000))
    assert regions[0].box == (500, 40, 500, 40) and regions[0].area == 10 * 20 * 100


def test_a_value_at_the_threshold_is_not_above_it():
    assert find_regions(np.full((3, 3), 0.5), np.zeros((3, 3)), 0.5)[0] == []


@pytest.mark.parametrize("threshold", [0, 1, -1, float("nan")])
def test_a_threshold_off_the_scale_is_refused(threshold):
    with pytest.raises(UserError, match="between 0 and 1"):
        find_regions(np.zeros((3, 3)), np.zeros((3, 3)), threshold)


def test_other_parts_are_told_from_defects(shared_dir):
    """Rings with every defect are of the kind that the ring checkpoint knows; other drawn parts and real photos are not."""
    detect = load_detector("uranet-demo-ring")

    def told(image: object) -> bool:
        return detect(image)["label"] == "unknown"

    rings = [demo_image("ring", 90_000 + i, defect)[0] for i, defect in enumerate((None, *KINDS["ring"][2]))]
    assert not any(told(Image.fromarray(ring)) for ring in rings)
    assert all(told(Image.fromarray(demo_image(kind, 1)[0])) for kind in ("cloth", "board"))
    photos = sorted((shared_dir / "data/textures").glob("*.jpg"))[::40]
    photos.append(shared_dir / "data/mvtec/bottle/test/good/000.png")
    assert all(told(str(photo)) for photo in photos)
    assert (
        detect(str(shared_dir / "data/mvtec/pill/test/good/000.png"))["label"] != "normal"
    )  # round on black, as rings are
