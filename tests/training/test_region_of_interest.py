"""A region of interest: outside of it nothing is learnt, scored or drawn, and inside defects are found as before."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import draw_part, tiny_config
from PIL import Image
from safetensors.torch import load_file

from ura_hf import TrainingOptions, URANetImageProcessor, UserError, train
from ura_hf.cli.main import main
from ura_hf.export import export
from ura_hf.hub.exported import load_exported
from ura_hf.hub.load import load_detector
from ura_hf.inference import find
from ura_hf.model.image_processing_uranet import MAPS
from ura_hf.model.region import Region, from_text, to_text
from ura_hf.training.near_copies import near_copies
from ura_hf.training.region import loader_within, read_region, within

ROI = (0, 0, 40, 48)  # of photos of 64x48 pixels: five of the eight columns of cells
GRID, SIDE = 8, 64


def photos(folder, seeds, outside=None):
    """Good photos; `outside` of the region every photo has noise of its own."""
    folder.mkdir(parents=True)
    for index, seed in enumerate(seeds):
        picture = draw_part(seed)[0]
        if outside is not None:
            picture[:, ROI[2] :] = np.random.default_rng(outside + index).integers(0, 255, picture[:, ROI[2] :].shape)
        Image.fromarray(picture).save(folder / f"{index}.png")
    return folder


def trained(data, output, weights, **more):
    options = TrainingOptions(
        data, output, weights, precision="fp32", roi=ROI, **{"steps": 30, "batch_size": 4, **more}
    )
    return train(options, tiny_config())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, resnet18_weights):
    folder = tmp_path_factory.mktemp("roi")
    trained(photos(folder / "data", range(12)), folder / "run", resnet18_weights, pose="fixed")
    return folder / "run"


@pytest.fixture(scope="module")
def detector(checkpoint):
    return load_detector(checkpoint)


def with_spot(x: int, y: int = 24) -> np.ndarray:
    picture = draw_part(100)[0]
    picture[y - 5 : y + 5, x - 5 : x + 5] = 5
    return picture


def outputs(detector, picture):
    (one,) = find(detector, [picture], fields=(*MAPS, "features", "restored_features"))
    return one


def test_a_defect_outside_changes_nothing_bit_for_bit(detector):
    good, bad = outputs(detector, draw_part(100)[0]), outputs(detector, with_spot(57))
    assert [name for name in good.output if not torch.equal(good.output[name], bad.output[name])] == []
    assert good.verdict() == bad.verdict()


def test_a_defect_inside_is_found_and_nothing_is_drawn_outside(detector):
    good, bad = outputs(detector, draw_part(100)[0]), outputs(detector, with_spot(20))
    assert bad.verdict()["label"] in ("anomalous", "unknown") and bad.raw_score > 1.5 * good.raw_score
    shown = bad.map("anomaly_map")
    y, x = np.unravel_index(shown.argmax(), shown.shape)
    assert abs(y - 24) < 9 and abs(x - 20) < 9
    for name in MAPS:
        drawn = bad.output[name][0]
        assert (drawn[:, ROI[2] :] == 0).all() and (name not in MAPS[:2] or (drawn[:, : ROI[2]] > 0).all()), name


@pytest.mark.parametrize("pose", ["fixed", "any"])
def test_what_lies_outside_is_not_learnt(tmp_path, resnet18_weights, pose):
    """Noise there leaves every weight and threshold as it is, in turned copies, too."""
    found = []
    for name, outside in (("plain", None), ("noisy", 500)):
        data = photos(tmp_path / name / "data", range(8), outside)
        record = trained(data, tmp_path / name / "run", resnet18_weights, steps=2, pose=pose)
        found.append((load_file(tmp_path / name / "run/model.safetensors"), record["thresholds"]))
    (first, thresholds), (second, others) = found
    assert thresholds == others and [name for name in first if not torch.equal(first[name], second[name])] == []


def test_memory_and_tokens_hold_cells_of_the_region_alone(checkpoint, detector):
    """A cell of grey, which every photo has outside, is no good cell."""
    uranet = detector.model.uranet
    inside = from_text(json.loads((checkpoint / "config.json").read_text())["roi"], GRID)
    assert np.array_equal(inside, np.arange(GRID)[None].repeat(GRID, 0) < 5)
    features = uranet.extract(detector.image_processor(draw_part(3)[0], return_tensors="pt")["pixel_values"])
    near = uranet.views.memory.distance(uranet.views.project(features))[0, 0]
    assert near[:, -1].min() > near[:, :4].median()


def test_an_exported_detector_obeys_it(checkpoint, tmp_path):
    export(checkpoint, tmp_path / "a.onnx")
    model, _ = load_exported(tmp_path / "a.onnx")
    pixels = torch.rand(1, 3, SIDE, SIDE)
    changed = pixels.clone()
    changed[..., ROI[2] :] = 0
    first, second = (model(given) for given in (pixels, changed))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert (first["anomaly_map"][..., ROI[2] :] == 0).all() and first["anomaly_map"][..., : ROI[2]].min() > 0


def test_half_precision_and_batches_agree(checkpoint, detector, tmp_path):
    pictures = [with_spot(20), draw_part(4)[0], with_spot(57)]
    alone = [outputs(detector, picture).raw_score for picture in pictures]
    together = [one.raw_score for one in find(detector, pictures, batch_size=3)]
    assert together == pytest.approx(alone, rel=1e-4)


def test_the_command_takes_a_mask(tmp_path, resnet18_weights, capsys):
    data = photos(tmp_path / "data", range(8))
    mask = np.zeros((24, 32), np.uint8)
    mask[:, :20] = 255
    Image.fromarray(mask).save(tmp_path / "roi.png")
    arguments = ["train", "--data", data, "--output", tmp_path / "o", "--roi", tmp_path / "roi.png", "--steps", 1]
    arguments += [
        "--backbone",
        "resnet18",
        "--backbone-weights",
        resnet18_weights,
        "--image-size",
        64,
        "--grid-size",
        8,
    ]
    arguments += [
        f"--set={field}" for field in ("hidden_size=32", "num_hidden_layers=1", "memory_tokens=16", "memory_cells=32")
    ]
    assert main([str(argument) for argument in arguments]) == 0
    config = json.loads((tmp_path / "o/config.json").read_text())
    assert np.array_equal(from_text(config["roi"], GRID), np.arange(GRID)[None].repeat(GRID, 0) < 5)
    Image.fromarray(255 - mask).save(tmp_path / "roi.png")
    shutil.rmtree(tmp_path / "o")
    assert main([str(argument) for argument in arguments]) == 0
    assert json.loads((tmp_path / "o/config.json").read_text())["roi"] != config["roi"]


# What a region is read from


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def read(roi, photo, mode="stretch", grid=GRID):
    text = read_region(str(roi), photo, URANetImageProcessor(size=SIDE, resize_mode=mode), grid)
    return None if text is None else from_text(text, grid)


def test_a_rectangle_and_a_mask_of_any_size_give_the_same_cells(photo, tmp_path):
    wanted = np.zeros((GRID, GRID), bool)
    wanted[2:6, 1:5] = True
    assert np.array_equal(read("8,12,32,24", photo), wanted)
    for scale in (1, 3):
        mask = np.zeros((48 * scale, 64 * scale), np.uint8)
        mask[12 * scale : 36 * scale, 8 * scale : 40 * scale] = 255
        Image.fromarray(mask).save(tmp_path / "roi.png")
        assert np.array_equal(read(tmp_path / "roi.png", photo), wanted)
    assert read("0,0,64,48", photo) is None


def test_where_photos_are_padded_the_region_is_so_too(photo, tmp_path):
    wanted = np.zeros((GRID, GRID), bool)
    wanted[1:7, :4] = True  # 48 of 64 pixels in height, in the middle; the padding does not count
    assert np.array_equal(read("0,0,32,48", photo, "pad"), wanted)
    whole = read("0,0,64,48", photo, "pad")
    assert whole[1:7].all() and not whole[[0, 7]].any()
    Image.new("L", (64, 64), 255).save(tmp_path / "square.png")
    with pytest.raises(UserError, match=r"must have the shape of the photos .* 64x48 pixels .*square\.png has 64x64"):
        read(tmp_path / "square.png", photo, "pad")


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ("40,0,32,48", "40,0,32,48 lies outside of the photos, in part or as a whole: they have 64x48 pixels"),
        ("-1,0,32,48", "lies outside of the photos"),
        ("200,200,5,5", "lies outside of the photos"),
        ("5,5,0,5", "a width and a height of at least 1, but got 0 and 5"),
        ("5,5,3,3", "covers no cell of the grid of 8x8 to at least one half"),
        ("black.png", "covers nothing, since it is all black"),
        ("none.png", r"not found: .*none\.png"),
        ("1,2,3", "not found: 1,2,3"),
    ],
)
def test_wrong_regions_are_named(photo, tmp_path, monkeypatch, roi, message):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (64, 48)).save(tmp_path / "black.png")
    with pytest.raises(UserError, match=message):
        read(roi, photo)


@pytest.mark.parametrize("mode", ["stretch", "pad"])
def test_copies_are_looked_for_in_the_region_alone(tmp_path, mode):
    """Below a fixture that is the same in all photos: what is inside differs, but for one photo."""
    processor = URANetImageProcessor(size={"height": SIDE, "width": SIDE}, resize_mode=mode)
    draw, paths = np.random.default_rng(0), [tmp_path / f"{index}.png" for index in range(8)]
    fixture = np.repeat((255 * (np.indices((96, 128)).sum(0) // 16 % 2)).astype(np.uint8)[..., None], 3, 2)
    for index, path in enumerate(paths):
        picture = fixture.copy()
        seed = np.random.default_rng(min(index, 6))  # the last shows what the one before it shows
        picture[24:36, 64:80] = seed.integers(100, 130, (12, 16, 3))
        picture[60:, :40] = draw.integers(0, 20)  # and what is not looked at differs there
        Image.fromarray(picture).save(path)
    region = Region(read_region("64,24,16,12", paths[0], processor, 32), 32)
    shown = within(processor.load_pixels(paths[0]), processor, region)
    assert shown.shape == (12, 16, 3) and np.array_equal(shown, np.asarray(Image.open(paths[0]))[24:36, 64:80])
    assert near_copies(paths, loader_within(processor, region)) == {7: 6}
    assert len(near_copies(paths, processor.load_pixels)) > 1
    whole = Region(None, 32)
    assert within(shown, processor, whole) is shown


def test_what_lies_beyond_a_region_has_one_colour(tmp_path):
    processor, cells = URANetImageProcessor(size={"height": SIDE, "width": SIDE}), np.zeros((GRID, GRID), bool)
    cells[2, 2:4] = cells[3, 3] = True
    picture = np.random.default_rng(0).integers(0, 256, (80, 160, 3), dtype=np.uint8)
    shown = within(picture, processor, Region(to_text(cells), GRID))
    assert shown.shape == (20, 40, 3) and np.array_equal(shown[:10], picture[20:30, 40:80])
    assert len(np.unique(shown[10:, :20].reshape(-1, 3), axis=0)) == 1


def test_the_record_names_the_region(checkpoint):
    record = json.loads((checkpoint / "training.json").read_text())
    assert record["options"]["roi"] == "0,0,40,48" and re.fullmatch(
        "[0-9a-f]{16}", json.loads((checkpoint / "config.json").read_text())["roi"]
    )
