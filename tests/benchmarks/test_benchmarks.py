"""The benchmarks' own parts: artificial defects, gathering of runs, the claim's numbers and the rendered tables."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import ablation
import artificial
import big_photos
import claim
import neighbour
import numpy as np
import pytest
import render
import runs
import sets
import tables_captions
import tables_methods
import tables_page
import tables_parts
import tables_predict
import tables_verdicts
import throughput
import torch
import turned
import verdicts
from conftest import ROOT, tiny_config
from PIL import Image

from ura_hf import URANetConfig, URANetImageProcessor, evaluate, load_detector
from ura_hf.data.folder import list_images
from ura_hf.data.reader import read_dataset
from ura_hf.evaluation.metrics import AnomalyMetrics
from ura_hf.model.configuration_uranet import VIEWS
from ura_hf.model.scoring import positive
from ura_hf.training.calibration import bound, curve


def part(seed: int = 0, side: int = 256) -> np.ndarray:
    """A light disc on a dark ground, uint8 (side, side, 3)."""
    y, x = np.mgrid[:side, :side] - side / 2
    noise = np.random.default_rng(seed).normal(0, 3, (side, side, 1))
    return (np.where(np.hypot(y, x) < 0.4 * side, 170, 30)[..., None] + noise).repeat(3, 2).astype(np.uint8)


@pytest.mark.parametrize("kind", artificial.KINDS)
def test_a_defect_changes_its_mask_and_little_else(kind):
    """On the part, of the documented size, the same for the same seed, and not the same for another."""
    image = part()
    masks = []
    for seed in range(12):
        drawn, mask = artificial.add_defect(image, kind, np.random.default_rng(seed))
        again, same = artificial.add_defect(image, kind, np.random.default_rng(seed))
        assert np.array_equal(drawn, again) and np.array_equal(mask, same)
        moved = np.abs(drawn.astype(int) - image).max(2)
        assert (moved[mask] >= artificial.CHANGED).mean() > 0.5 and moved[~mask].max() < artificial.CHANGED
        assert image[mask].mean() > 50  # not on the ground beside the part
        rows, columns = np.nonzero(mask)
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        low, high = {"spot": (2, 12), "scratch": (3, 103), "cut_paste": (3, 61), "texture": (3, 180)}[kind]
        assert low <= extent <= high
        masks.append(mask)
    assert not np.array_equal(masks[0], masks[1])


def test_held_out_images_are_not_trained_on(category, tmp_path):
    """12 images: 2 held out, as they are and once with every kind; the clean one has the defective one's name."""
    images = list_images(category / "train/good")
    artificial.write_held_out(images, tmp_path / "split", seed=0)
    found = read_dataset(tmp_path / "split")
    held = {sample.image.name for sample in found.test if not sample.label}
    assert len(found.train) == 10 and len(held) == 2 and not held & {s.image.name for s in found.train}
    defective = [sample for sample in found.test if sample.label]
    assert len(defective) == 2 * len(artificial.KINDS) and all(sample.mask for sample in defective)
    for sample in defective:
        clean = np.asarray(Image.open(tmp_path / "split/test/good" / sample.image.name)).astype(int)
        mask = np.asarray(Image.open(sample.mask)) > 0
        moved = np.abs(np.asarray(Image.open(sample.image)) - clean).max(2) >= artificial.CHANGED
        assert moved.any() and not (moved & ~mask).any()


def test_defects_of_grey_images_are_grey():
    image = part()[..., :1].repeat(3, 2)
    for kind in artificial.KINDS:
        drawn, _ = artificial.add_defect(image, kind, np.random.default_rng(0))
        assert not np.ptp(drawn, axis=2).any() and not np.array_equal(drawn, image)


def test_every_row_and_variant_is_a_config():
    """And no two variants are alike."""
    for row in ablation.ROWS.values():
        fields = {"views": list(row.views), "score_views": list(row.score_views)}
        assert row.needs <= set(VIEWS) and (row.views == ("image",) or URANetConfig(**fields))
    variants = [URANetConfig(**fields).to_dict() for fields in ablation.VARIANTS.values()]
    assert all(one != other for i, one in enumerate(variants) for other in variants[:i])


def test_rows_have_the_scores_of_a_model_that_adds_up_their_views(checkpoint, category, tmp_path, monkeypatch):
    """The first row is the checkpoint's own score, measured as `evaluate` does; one view's figures are others."""
    monkeypatch.setattr(ablation, "trained", lambda *_: checkpoint)
    monkeypatch.setattr(ablation, "data_folder", lambda *_: category)
    scores: list[list[float]] = []  # of every row, in their order

    class Kept(AnomalyMetrics):
        def __init__(self) -> None:
            super().__init__()
            scores.append([])
            self.row = scores[-1]

        def update(self, given, *others):
            self.row += given.tolist()
            super().update(given, *others)

    monkeypatch.setattr(ablation, "AnomalyMetrics", Kept)
    options = argparse.Namespace(work=tmp_path, shared=tmp_path, steps=3)
    found = ablation.run_one(ablation.DEFAULT, "pill", 0, options)["rows"]
    by_row = dict(zip(found, scores, strict=True))
    assert by_row["with perception"] != by_row["the score"] != by_row["with memory twice"]
    report = evaluate(load_detector(checkpoint), category)
    for key in ("image_auroc", "pixel_auroc", "pixel_ap"):
        assert found["the score"][key] == pytest.approx(report[key], abs=1e-3)
    assert found["whole image alone"]["pixel_ap"] is None and found["whole image alone"]["image_auroc"] is not None
    assert found["perception alone"]["pixel_ap"] != found["the score"]["pixel_ap"]
    assert set(found) == set(ablation.ROWS)
    assert found["with perception"]["pixel_ap"] == found["the score"]["pixel_ap"]
    turned = ablation.rows_of(ablation.DEFAULT, True)
    assert all(ablation.rows_of(variant, True) for variant in ablation.VARIANTS)
    assert turned["the score"].views == ("memory", "remainder", "image") and "Gaussian of the place alone" not in turned
    alone = {found[name]["pixel_ap"] for name, row in ablation.ROWS.items() if row.views == ("perceived",)}
    assert len(alone) == 3  # as it is, without distance, and without uncertainty
    restored = [by_row[name] for name, row in ablation.ROWS.items() if row.views == ("restored",)]
    assert len(restored) == 4 and all(one != other for i, one in enumerate(restored) for other in restored[:i])
    plain, peaks = ("largest sum of memory, place and remainder", "without image")
    assert by_row[plain] != by_row[peaks] and found[plain]["pixel_ap"] == found[peaks]["pixel_ap"]
    fewer = ablation.run_one("plain reconstruction", "pill", 0, options)["rows"]
    assert {*fewer} == {name for name in found if "restor" in name}
    assert fewer == {row: found[row] for row in fewer}


SCRIPT = """
import json, sys
from pathlib import Path
work, key = Path(sys.argv[1]), sys.argv[3:]
sys.path.insert(0, sys.argv[2])
import runs
with open(work / "calls", "a") as log:
    log.write(key[0])
if key[0] == "b" and not (work / "mended").exists():
    sys.exit(1)
runs.part(work, (key[0], int(key[1]))).write_text(json.dumps({"name": key[0], "seed": int(key[1])}))
"""


def test_runs_go_on_where_they_stopped(tmp_path):
    """A failed run stops no other and is tried again; results in the committed file and parts of a killed call are kept."""
    script, output = tmp_path / "script.py", tmp_path / "out.json"
    script.write_text(SCRIPT.replace("sys.argv[3:]", "sys.argv[4:]"))
    keys = [("a", 0), ("b", 0), ("c", 0)]
    runs.part(tmp_path, ("c", 0)).write_text(json.dumps({"name": "c", "seed": 0, "kept": True}))

    def go() -> None:
        def add(key, run):
            runs.write_report(output, {"runs": list((runs.read_runs(output, ("name", "seed")) | {key: run}).values())})

        missing = [key for key in keys if key not in runs.read_runs(output, ("name", "seed"))]
        runs.run_missing(str(script), missing, tmp_path, 2, [tmp_path, ROOT / "benchmarks"], add)

    with pytest.raises(SystemExit, match=r"1 runs failed.*'b'"):
        go()
    found = runs.read_runs(output, ("name", "seed"))
    assert set(found) == {("a", 0), ("c", 0)} and found["c", 0]["kept"]
    (tmp_path / "mended").touch()
    go()
    assert set(runs.read_runs(output, ("name", "seed"))) == set(keys)
    assert sorted((tmp_path / "calls").read_text()) == ["a", "b", "b"]
    assert json.loads(output.read_text())["versions"]["torch"]


def test_what_is_best_on_the_others_is_judged_on_the_one_left_out():
    """Data sets that favour other rows: what is chosen never saw the figure that is told."""
    figures = {"a": (0.9, 0.6), "b": (0.8, 0.7), "c": (0.5, 0.95)}  # of the score, and of another row
    runs = [
        {
            "variant": "default",
            "dataset": name,
            "seed": 0,
            "rows": {
                row: {"image_auroc": value, "pixel_ap": value}
                for row, value in zip(("the score", "other"), pair, strict=True)
            },
        }
        for name, pair in figures.items()
    ]
    text = tables_parts.left_out({"runs": runs, "hardware": "2 CPU cores", "date": "2026-01-01"})
    for line in ("| a | other | 0.600 | 0.900 |", "| b | other | 0.700 | 0.800 |", "| c | the score | 0.500 | 0.500 |"):
        assert line in text
    assert "| mean |  | 0.600 | 0.733 |" in text


def test_the_command_is_told_without_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmarks/peers.py", "--seeds", "0", "--work", "/tmp/x", "--jobs", "2"])
    runs.write_report(tmp_path / "out.json", {"runs": []})
    assert json.loads((tmp_path / "out.json").read_text())["command"] == "python benchmarks/peers.py --seeds 0 --jobs 2"


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(argparse.ArgumentTypeError, match="there is none here"):
        runs.device_here("cuda")
    assert runs.device_here("cpu") == "cpu"


def test_error_ratios_by_hand():
    """Inside: half of the anomaly is left. Outside: a tenth of the features' length is off, a hundredth of their square."""
    clean = torch.ones(1, 2, 4, 4)
    inside = torch.zeros(1, 1, 4, 4)
    inside[..., :2] = 1
    altered = clean + 4 * inside
    restored = clean + 2 * inside + 0.1 * (1 - inside)
    error = claim.Error()
    error.add(clean, altered, restored, inside, 1 - inside)
    assert error.ratios() == pytest.approx({"inside": 0.25, "outside": 0.01})


@pytest.mark.parametrize("anomalous", [True, False])
def test_figure_of_any_checkpoint(checkpoint, category, anomalous):
    """Defective test images of a category, or a plain folder; every column is drawn."""
    model, processor = claim.load(checkpoint)
    samples = claim.choose(category if anomalous else category / "train/good", 2)
    assert [sample.label for sample in samples] == [int(anomalous)] * 2
    picture = np.asarray(claim.figure([model, model], processor, samples))
    assert picture.shape == (18 + 2 * claim.SIDE, len(claim.COLUMNS) * claim.SIDE, 3)
    columns = picture[18 : 18 + claim.SIDE].reshape(claim.SIDE, len(claim.COLUMNS), claim.SIDE, 3).swapaxes(0, 1)
    spread = columns[:, 10:-10, 10:-10].std((1, 2, 3))
    assert (spread[[0, *range(2, 7)]] > 2).all() and (spread[1] > 2) == anomalous
    assert np.array_equal(columns[3], columns[4])  # the same model twice


def test_numbers_of_a_checkpoint(checkpoint, category, tmp_path):
    """Finite, the same for the same model, and worse than 0 where nothing is perfect."""
    model, processor = claim.load(checkpoint)
    artificial.write_held_out(list_images(category / "train/good"), tmp_path / "split", seed=0)
    features = torch.randn(4, model.backbone.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    for found in (
        claim.on_synthesis([model, model], features, 0),
        claim.on_drawn([model, model], processor, tmp_path / "split"),
    ):
        assert found[0] == found[1] and all(0 < value < 1e3 for value in found[0].values())


def _metrics(value: float) -> dict[str, float]:
    return dict.fromkeys(tables_methods.COLUMNS, value)


def test_ablation_table():
    """Every data set with its spread over seeds, and the mean over them where a row has all."""
    facts = {"versions": {"torch": "2"}, "hardware": "2 cores", "date": "2026-01-01", "command": "python x"}
    report: dict = {**facts, "runs": []}
    for dataset, seed, value in (("pill", 0, 0.5), ("pill", 1, 0.7), ("bottle", 0, 0.9)):
        others = {"pixel_auroc": value, "aupro": value / 3}
        rows = {"the score": {"image_auroc": value, "pixel_ap": value / 2, **others}}
        rows["whole image alone"] = {"image_auroc": value / 4, **dict.fromkeys(("pixel_ap", *others))}
        run = {"variant": ablation.DEFAULT, "dataset": dataset, "seed": seed, "steps": 300, "commit": "abc"}
        report["runs"].append({**run, "rows": rows})
    report["runs"].append({**run, "variant": "plain reconstruction", "rows": {"restoration alone": rows["the score"]}})
    text = tables_parts.ablation(report)
    assert "| the score | 0.600 ± 0.100 | 0.900 | 0.750 |" in text and "| the score | 0.300 ± 0.050 | 0.450 |" in text
    assert "| whole image alone | 0.150 ± 0.025 | 0.225 |" in text.split("**pixel AP**")[0]
    maps, means = text.split("**pixel AP**")[1].split("**Means over the data sets**")
    assert "whole image alone" not in maps and "| whole image alone | 0.188 |  |  |  |" in means
    assert "| the score | 0.750 | 0.750 | 0.375 | 0.250 |" in means and "plain" not in means
    assert "| restoration alone, plain reconstruction |  | 0.900 |  |" in text  # a mean is over all data sets
    assert text.endswith("300 steps, seeds 0, 1 · 2 cores · 2026-01-01")


def test_small_types_and_claim_tables():
    runs_found = [
        {"model": model, "dataset": "pill", "seed": seed, "per_type": {"scratch": _metrics(value)}}
        for model, seed, value in (("uranet", 0, 0.8), ("uranet", 1, 0.6), ("padim", 0, 0.5))
    ]
    facts = {"hardware": "2 cores", "date": "2026-01-01", "versions": {"torch": "2"}, "command": "python x"}
    text = tables_methods.small_types({**facts, "runs": runs_found})
    assert "| uranet | 0.700 / 0.700 / 0.700 |" in text and "| padim | 0.500" in text and "blowhole" not in text
    errors = {
        model: {"inside": value, "outside": value / 10}
        for model, value in zip(claim.MODELS, (0.2, 0.4, 0.9), strict=True)
    }
    worse = {model: {"inside": value["inside"] + 0.2, "outside": 0.5} for model, value in errors.items()}
    run = {"dataset": "pill", "seed": 4, "commit": "abc", "steps": 300, "synthesis": errors, "drawn": errors}
    table = tables_parts.claim({**facts, "runs": [run, {**run, "dataset": "bottle", "drawn": worse}]})
    assert "| pill | 0.200 | 0.400 | 0.900 | 0.020 | 0.040 | 0.090 |" in table
    assert "| drawn into the image | mean | 0.300 | 0.500 | 1.000 |" in table
    older = {**run, "drawn": {model: errors[model] for model in ("uranet", "plain")}}
    assert "| pill | 0.200 | 0.900 | 0.020 | 0.090 |" in tables_parts.claim({**facts, "runs": [older]})
    assert table.endswith("`python benchmarks/claim.py --steps 300` · seed 4 · 2 cores · 2026-01-01")


def test_tables_say_the_days_of_their_runs():
    facts = {"hardware": "2 cores", "versions": {"torch": "2"}, "date": "2026-01-09"}
    days = ("2026-01-05", "2026-01-02", "2026-01-05")
    assert tables_captions.made_on(facts) == "2 cores, torch 2, 2026-01-09"
    assert tables_captions.made_on({**facts, "runs": [{"seed": 0}]}).endswith(", 2026-01-09")
    assert tables_captions.made_on({**facts, "runs": [{"date": day} for day in days]}).endswith(
        "2026-01-02 to 2026-01-05"
    )


def test_tables_say_which_markers_are_missing(tmp_path, monkeypatch, capsys):
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "docs/results/claim.json").write_text("{}")
    (tmp_path / "docs/results.md").write_text("no markers")
    monkeypatch.setattr(render, "ROOT", Path(tmp_path))
    assert render.main() == 1
    assert "docs/results.md lacks the lines <!-- claim -->" in capsys.readouterr().out


def test_generated_data_is_written_once_and_never_half(tmp_path, monkeypatch):
    """Not again where it is there; where another process was faster its folder stays alone; a failure leaves nothing."""
    calls = []

    def write(folder: Path, faster: bool = False) -> None:
        calls.append(folder)
        for place in (folder, tmp_path / "data") if faster else (folder,):
            place.mkdir()
            (place / "made").write_text(str(len(calls)))

    found = sets.written_once(tmp_path / "data", lambda folder: write(folder, faster=True))
    assert found == sets.written_once(found, write) == tmp_path / "data" and len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        sets.written_once(tmp_path / "other", write)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_turned_parts_keep_their_masks_and_grounds(tmp_path, scale):
    """A light bar with a red defect near one end: turned alike, not cut off, on more of their ground, no two alike."""
    bar = np.full((64, 64, 3), 20, np.uint8)
    bar[28:36, 8:56] = 200
    mask = np.zeros((64, 64), np.uint8)
    mask[29:35, 45:53] = 255
    bar[mask > 0] = (200, 0, 0)
    for place, picture in (("train/good/a", bar), ("train/good/d", bar), ("test/dent/b", bar), ("test/good/c", bar)):
        artificial._save(picture, tmp_path / f"bars/{place}.png")
    artificial._save(mask, tmp_path / "bars/ground_truth/dent/b_mask.png")
    turned.write_turned(tmp_path / "bars", tmp_path / "out", scale)
    found = read_dataset(tmp_path / "out")
    pictures = [np.asarray(Image.open(sample.image)) for sample in (*found.train, *found.test)]
    assert all(picture.shape == (round(64 / scale),) * 2 + (3,) for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1])
    (defective,) = [sample for sample in found.test if sample.label]
    picture, drawn = np.asarray(Image.open(defective.image)).astype(int), np.asarray(Image.open(defective.mask)) > 0
    assert set(np.unique(drawn)) == {False, True} and drawn.sum() == pytest.approx(48, abs=8)
    red = picture[..., 0] - picture[..., 1] > 100
    assert (red & drawn).sum() > 0.8 * (red | drawn).sum()
    assert (picture[..., 0] > 110).sum() == pytest.approx(8 * 48, rel=0.1)
    assert np.array_equal(picture[[0, 0, -1, -1], [0, -1, 0, -1]], np.full((4, 3), 20))


def test_verdicts_of_a_draw(category, shared_dir, monkeypatch, tmp_path):
    """Of 10 of the good discs; what is asked rises, and so do false alarms; the least misses are those of no other threshold."""
    monkeypatch.setattr(verdicts, "URANetConfig", tiny_config)
    monkeypatch.setattr(verdicts, "URANetImageProcessor", lambda: URANetImageProcessor(size=tiny_config().image_size))
    good = [sorted((category / place).iterdir()) for place in ("train/good", "test/good")]
    bad = sorted((category / "test/spot").iterdir())
    monkeypatch.setattr(verdicts, "images_of", lambda *_: (good[0] + good[1], len(good[0]), bad, []))
    options = argparse.Namespace(shared=shared_dir, work=tmp_path)
    run = verdicts.run_one("bottle", 10, 3, options)
    total = len(good[0]) + len(good[1])
    assert run["images"] == {"fitted": 10, "copies": 0, "good": total - 10, "defective": len(bad)} and run["draw"] == 3
    alarms = [one["false_alarms"] for one in run["rates"]]
    assert alarms == sorted(alarms) and [one["asked"] for one in run["rates"]] == list(verdicts.ASKED)
    assert all(sum(run["verdicts"][kind].values()) == pytest.approx(1) for kind in ("good", "defective"))
    caught = 1 - run["rates"][2]["misses"]
    assert run["verdicts"]["defective"]["anomalous"] + run["verdicts"]["defective"]["unknown"] >= caught - 1e-9
    facts = {"hardware": "two cores", "date": "2026-11-30"}
    text = tables_verdicts.verdicts({"runs": [run, run | {"draw": 4}, run | {"count": 50}], **facts})
    assert f"| 10 | 5% | {run['rates'][2]['false_alarms']:.1%} |" in text and text.count("| bottle |") == 1
    tables_verdicts.plot({"runs": [run]}, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_a_shift_is_noticed_and_calibrated_away():
    """Good images that score higher are false alarms until the thresholds are set on some of them."""
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(size=200))
    threshold = float(positive(torch.tensor(bound(scores, 0.05))))
    pairs = [[rate, float(positive(torch.tensor(raw)))] for rate, raw in curve(scores, 0.05)]
    config = URANetConfig(image_threshold=threshold, pixel_threshold=threshold, false_alarms=pairs)
    usual, later = (
        verdicts.Found(positive(torch.from_numpy(rng.normal(mean, size=120))).numpy(), np.zeros(120)) for mean in (0, 2)
    )
    found = verdicts.shift(SimpleNamespace(config=config), usual, later, 0)
    assert found["false_alarms"] > 0.4 and found["calibrated"] < 0.15 and not found["false_alarm"]
    assert 1 < found["noticed"] < 60
    text = "\n".join(" | ".join(row) for row in tables_verdicts._shifts([{"count": 50, "shift": found}]))
    assert f"{found['noticed']} to {found['noticed']} parts" in text


def test_a_busy_neighbour_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(neighbour, "milliseconds", lambda policy, busy: [10.0 + 90 * (busy and policy == "long"), 12.0])
    monkeypatch.setattr(sys, "argv", ["neighbour.py", "--output", str(tmp_path / "n.json")])
    neighbour.main()
    text = tables_page.neighbour(json.loads((tmp_path / "n.json").read_text()))
    assert "| long | 11, 12 | 56, 100 |" in text and "| briefly, as `uranet`" in text


def test_large_photos_are_measured(monkeypatch, tmp_path):
    """By its own commit, at the smallest size; the table sets it beside an earlier one."""
    monkeypatch.setattr(big_photos, "SIZES", {12: (1200, 900)})
    monkeypatch.setattr(big_photos, "KINDS", ("jpg",))
    monkeypatch.setattr(sys, "argv", ["big_photos.py", "--sizes", "12", "--output", str(tmp_path / "b.json")])
    big_photos.main()
    report = json.loads((tmp_path / "b.json").read_text())
    assert len(report["cases"]) == 2 and all(case["decoding_seconds"] >= 0 for case in report["cases"])
    earlier = {**report["cases"][0], "now": False, "besides_seconds": 9.0, "bytes_per_pixel": 99.0}
    text = tables_predict.big_photos({**report, "cases": [earlier, *report["cases"]]})
    assert "| 12 MP jpg | verdict |" in text and "9.00 s → " in text and "99.0 → " in text and "- → " in text


def test_throughput_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(throughput, "ROUNDS", 1)
    words = ["--images", "4", "--counts", "6", "--output", str(tmp_path / "t.json")]
    monkeypatch.setattr(sys, "argv", ["throughput.py", *words])
    throughput.main()
    report = json.loads((tmp_path / "t.json").read_text())
    assert report["memory"][0]["rows"] == 6 and report["memory"][0]["peak_mib"] > 100
    assert report["cases"][0]["share_of_model"] == 1 and len(report["cases"]) == 4
    assert "| model alone |" in tables_predict.throughput(report)
