"""The measures of uncertainty by hand, and the whole benchmark on the smallest data."""

from __future__ import annotations

import argparse
import json

import numpy as np
import posteriors
import pytest
import tables_parts
import torch
import uncertainty
import uncertainty_measures as measures
import uncertainty_part
from conftest import tiny_config
from PIL import Image
from tables_uncertainty import plot
from tables_uncertainty import uncertainty as as_tables

from ura_hf import URANetImageProcessor


def test_reliability_by_hand():
    p, labels = np.array([0.0, 0.02, 0.95, 0.97]), np.array([0.0, 1.0, 1.0, 1.0])
    found = measures.reliability(p, labels)
    assert found["ece"] == pytest.approx(0.5 * abs(0.01 - 0.5) + 0.5 * abs(0.96 - 1))
    assert found["brier"] == pytest.approx((0 + 0.98**2 + 0.05**2 + 0.03**2) / 4)
    assert len(found["bins"]) == 2


def test_calibration_undoes_a_distortion():
    rng = np.random.default_rng(0)
    true = rng.uniform(0.01, 0.6, 40_000)
    labels = rng.random(40_000) < true
    shown = measures.calibrated(true, (2.0, 1.5))
    again = measures.calibrated(shown, measures.calibrator(shown, labels))
    assert measures.reliability(shown, labels)["ece"] > 0.1 and np.abs(again - true).max() < 0.05


def test_deferring_the_wrong_ones_first_costs_least():
    errors = np.array([1.0, 0, 0, 0])
    best, worst = (measures.area_under_risk(errors, np.array([u, 1, 2, 3])) for u in (9, 0))
    assert best == pytest.approx(1 / 16) and worst == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_the_curve_of_risks_by_hand():
    errors, doubt = np.array([1.0, 0, 0, 1]), np.array([4.0, 1, 2, 3])
    assert measures.risk_curve(errors, doubt, points=2) == [0, 0.5]
    assert measures.risk_curve(errors, doubt, points=4) == [0, 0, pytest.approx(1 / 3, abs=1e-5), 0.5]


def test_ranks_added():
    assert measures.ranks_added(np.array([0.1, 5, 0.2]), np.array([9, 8, 7])).tolist() == [4, 5, 3]


def test_regions_that_touch_a_defect_and_others():
    shown, doubt, mask = (np.zeros((2, 8, 8)) for _ in range(3))
    shown[0, 1:3, 1:3], shown[0, 6, 6], shown[1, 4, 4] = 2, 3, 0.5
    doubt[0, 1, 1:3], mask[0, 2, 2] = 0.4, 1
    found = measures.region_figures(shown, 1, mask.astype(bool), {"total": doubt})
    assert found == {"true": [[2, pytest.approx(0.2)]], "false": [[3, 0]]}


def test_an_even_map_lies_at_edges_by_chance():
    mask = np.zeros((1, 64, 64), bool)
    mask[:, 20:40, 20:40] = True
    edge = np.zeros((1, 64, 64))
    edge[0, 20, 20:40] = 1
    assert measures.edge_share(np.ones((1, 64, 64)), mask) == pytest.approx(1)
    assert measures.edge_share(edge, mask) > 3


@pytest.fixture
def smallest(category, tmp_path, monkeypatch):
    """Options of a run on the smallest data."""
    monkeypatch.setattr(uncertainty_part, "URANetConfig", tiny_config)
    monkeypatch.setattr(uncertainty_part, "URANetImageProcessor", lambda: URANetImageProcessor(size=64))
    monkeypatch.setattr(uncertainty_part, "load_imagenet", lambda *_: None)
    for module in (uncertainty, uncertainty_part, posteriors):
        monkeypatch.setattr(module, "data_folder", lambda *_: category)
    for module in (uncertainty, posteriors):
        monkeypatch.setattr(module, "DATA", ("disc", "other"))
    monkeypatch.setattr(uncertainty, "SIDE", 64)
    return argparse.Namespace(work=tmp_path, shared=tmp_path, steps=12)


def test_posteriors_on_the_smallest_data(smallest):
    """Each differs from the others, also without distance; the table has a row for each, and of other parts the worst."""
    found = posteriors.run_one("disc", 0, smallest)
    rows = [figures for both in found["posteriors"].values() for figures in both.values()]
    assert len({row["brier"] for row in rows}) == len(rows) == 6
    runs = json.loads(json.dumps([{"dataset": "disc", "seed": 0, "steps": 12, **found}] * 2))
    runs[1]["posteriors"]["Laplace"]["with distance"]["other_parts"] = 0.1
    text = tables_parts.posteriors({"runs": runs, "hardware": "2 CPU cores", "date": "2026-01-01"})
    assert "| Laplace, with distance | " in text and " | 0.100 |" in text and "| mean field, without distance |" in text


def test_variational_posteriors_learn_what_cells_say():
    """Of many cells the mean is that of the regression that made them, and it is surer than that of few."""
    torch.manual_seed(0)
    x, true = torch.randn(20_000, 4), torch.tensor([2.0, -1.0, 0.0, 0.5])
    labels = (torch.rand(len(x)) < (x @ true).sigmoid()).float()
    for fit in posteriors.LEARNT.values():
        torch.manual_seed(0)
        mean, root = fit(x, labels, torch.zeros(4), float(len(x)), 1.0)
        assert torch.nn.functional.cosine_similarity(mean, true, 0) > 0.98
        torch.manual_seed(0)
        unsure = fit(x, labels, torch.zeros(4), 20.0, 1.0)[1]
        assert unsure.norm() > 1.5 * root.norm()


def test_the_benchmark_on_the_smallest_data(smallest, tmp_path):
    """Every figure is a number, the nets differ, and the tables can be made of it."""
    options = smallest
    found = uncertainty.run_one("disc", 0, options)
    detection = found["detection"]
    assert detection["posterior"] != detection["deterministic"] != detection["ensemble"]
    assert {"posterior, epistemic", "dropout, epistemic"} <= set(found["risk"]["pixels"])
    assert not [key for key in found["risk"]["pixels"] if key == "deterministic, epistemic"]
    assert len({figures["area"] for figures in found["decisions"].values()}) > 1
    assert found["means"]["good"]["epistemic"] > 0 and set(found["other_parts"]) == {"other"}
    assert uncertainty.BOTH in found["risk"]["images"] and min(found["milliseconds"].values()) > 0
    few = uncertainty.with_count("disc", 0, 4, options)
    key = {"dataset": "disc", "seed": 0, "steps": 12}
    runs = json.loads(json.dumps([{**key, "count": 0, **found}, {**key, "count": 4, **few}]))
    report = {"runs": runs, "hardware": "2 CPU cores", "date": "2026-01-01"}
    runs[0]["reliability"]["posterior"]["ece"], runs[0]["edge_share"]["aleatoric"] = 0.04, 3.5
    runs[0]["risk"]["own_pixels"] |= {"posterior": 0.2, "deterministic": 0.3, "dropout": 0.25}
    assert "nan" not in (text := as_tables(report)) and "| posterior | " in text and "| 4 | " in text
    assert "| calibration error of the probability | 0.040 | at most 0.03 | no |" in text
    assert set(found["milliseconds"]) == {"verdict", "uncertainty", "dropout", "ensemble"}
    curves = runs[0]["risk"]["curves"]["images"]
    assert len(curves) == 5 and all(
        curve[-1] == pytest.approx(runs[0]["risk"]["image_errors"]) for curve in curves.values()
    )
    plot(report, tmp_path / "drawn.png")
    assert Image.open(tmp_path / "drawn.png").size[0] > 1000
    runs[0]["reliability"]["posterior"]["bins"] = [[0.9, 0.01, 0.0], [0.06, 0.25, 0.5], [0.04, 0.35, 1.0]]
    assert "| 0.2 to 0.4 | 0.29, 0.70 (10.00%) |" in as_tables(report) and "| 0.8 to 1.0 |  |" in as_tables(report)
    for name, area in {"posterior": 0.0123, "deterministic": 0.0121, "dropout": 0.0122, "none": 0.0124}.items():
        runs[0]["decisions"][name]["area"] = area
    assert "| 0.0123 | at most 0.0121, the best of no and of one" in as_tables(report)
    assert "| aleatoric: near edges, 1 is chance | 3.5 | at least 3 | yes |" in text
    assert "| 0.2000 | at most 0.2500, the best of one network without a posterior | yes |" in text


def test_passes_and_nets_are_settings_of_the_weights():
    """Of nets without spread and calibration the mean probability is that of their logits."""
    torch.manual_seed(0)
    nets = [uncertainty_part.AnomalyPerception(6, 8, 1.0).requires_grad_(False) for _ in range(2)]
    seen = torch.randn(3, 6, 4, 4)
    maps = uncertainty_part.perceived(nets, seen, passes=2, posterior=False)
    wanted = torch.stack([net(seen).sigmoid() for net in nets]).mean(0)[:, 0]
    torch.testing.assert_close(maps["probability"], wanted)
    assert maps["epistemic"].max() > 0
