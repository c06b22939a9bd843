"""The small backbone: what the package ships, and the command that makes it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import shutil

import numpy as np
import pictures
import pytest
import torch
from conftest import ROOT
from distill import main
from pictures import Pictures
from PIL import Image
from safetensors.torch import load_file
from scipy import ndimage

from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.files import ASSETS
from ura_hf.data.textures import generated_texture
from ura_hf.hub.names import bundled
from ura_hf.model.backbone import SMALL, Backbone
from ura_hf.training.imagenet import load_imagenet


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(20):
        Image.fromarray(demo_image("board", index, side=96)[0]).save(folder / f"{index}.png")
    return folder


def arguments(resnet18_weights, photos, output, *more: object) -> list[str]:
    given = ["--teacher", "resnet18", "--teacher-weights", resnet18_weights, "--photos", photos]
    return [str(a) for a in (*given, "--output", output, "--side", 64, "--batch-size", 4, *more)]


@pytest.fixture(scope="module")
def distilled(resnet18_weights, photos, tmp_path_factory):
    """The weights of a distillation of 30 steps, and what it printed."""
    output, printed = tmp_path_factory.mktemp("distilled") / "out" / "small.safetensors", io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(arguments(resnet18_weights, photos, output, "--steps", 30)) == 0
    return output, printed.getvalue()


def test_command_writes_weights_and_card(distilled):
    """More steps come closer to the teacher, and the file is one that `--backbone-weights` takes."""
    output, printed = distilled
    card = json.loads(output.with_suffix(".json").read_text())
    assert card["losses"][-1] < 0.7 * card["losses"][0]
    assert card["photos"] == {"trained_on": 18, "held_out": 2} and len(card["held_out"]["error"]) == 3
    assert not list(output.parent.glob("*.partial"))
    assert card["options"]["seed"] == 0 and card["options"]["teacher"] == "resnet18"
    assert {tensor.dtype for tensor in load_file(output).values()} <= {torch.float16, torch.int64}
    load_imagenet(Backbone(SMALL, (1, 2, 3), 8), output)
    assert "parameters" in printed


def test_going_on_from_an_earlier_distillation(distilled, resnet18_weights, photos, tmp_path, capsys):
    """It begins where the earlier one ended, keeps its card, and asks for that card."""
    first, second = (tmp_path / f"{name}.safetensors" for name in ("first", "second"))
    for suffix in (".safetensors", ".json"):
        shutil.copy(distilled[0].with_suffix(suffix), first.with_suffix(suffix))
    assert main(arguments(resnet18_weights, photos, second, "--steps", 1, "--initial", first)) == 0
    earlier, card = (json.loads(path.with_suffix(".json").read_text()) for path in (first, second))
    assert card["earlier"] == earlier and card["losses"][0] < 0.7 * earlier["losses"][0]
    first.with_suffix(".json").unlink()
    third = tmp_path / "third.safetensors"
    assert main(arguments(resnet18_weights, photos, third, "--initial", first)) == 2
    assert "the card of the initial weights, can't be read" in capsys.readouterr().err
    assert main(arguments(resnet18_weights, photos, third, "--initial", resnet18_weights)) == 2
    assert "does not fit the backbone" in capsys.readouterr().err and not third.exists()


def test_too_few_photos(resnet18_weights, photos, tmp_path, capsys):
    few = shutil.copytree(photos, tmp_path / "photos")
    (few / "0.png").unlink()
    assert main(arguments(resnet18_weights, few, tmp_path / "s.safetensors")) == 2
    assert "at least 20 photos, but got 19" in capsys.readouterr().err
    assert not list(tmp_path.glob("s.*"))


def test_teacher_weights_of_another_architecture(resnet18_weights, photos, tmp_path, capsys):
    given = arguments(resnet18_weights, photos, tmp_path / "s.safetensors")
    given[given.index("resnet18")] = "mobilenetv2_100"
    assert main(given) == 2
    assert "does not fit the backbone" in capsys.readouterr().err
    assert not list(tmp_path.glob("s.*"))


def test_output_that_can_not_be_written(resnet18_weights, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(arguments(resnet18_weights, photos, tmp_path / "file" / "s.safetensors")) == 2
    assert "can't be written" in capsys.readouterr().err


def test_pictures_are_many_from_few_photos():
    """Normalised and finite, another one at every call, the same ones from the same seed; some stand on a plain ground."""
    photo = torch.randint(256, (3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    pictures = [Pictures([photo], 64, 8)[i]["pictures"] for i in range(8)]
    torch.manual_seed(5)
    assert torch.equal(Pictures([photo], 64, 8)[0]["pictures"], pictures[0])
    for first, second in itertools.pairwise(pictures):
        assert first.shape == (3, 64, 64) and first.isfinite().all() and first.abs().max() < 3
        assert not torch.equal(first, second)


def test_marks_are_drawn_and_unbroken(monkeypatch):
    """Strokes change a plain picture where MARKED says so; however long and thin, a stroke has no gap."""
    monkeypatch.setattr(pictures, "CUT_OUT", 0)
    monkeypatch.setattr(pictures, "_recolour", lambda picture: picture)
    monkeypatch.setattr(Pictures, "_content", lambda _: torch.full((3, 64, 64), 0.5))
    for share in (0, 1):
        monkeypatch.setattr(pictures, "MARKED", share)
        torch.manual_seed(0)
        drawn = [Pictures([], 64, 1)[0]["pictures"] for _ in range(20)]
        ranges = [float((picture - picture[:, :1, :1]).abs().max()) for picture in drawn]
        marked = sum(reach > 1.2 for reach in ranges)  # noise alone stays below
        assert marked >= 10 if share else marked == 0
    torch.manual_seed(0)
    for _ in range(200):
        mark = pictures._mark(160)[0].numpy()
        assert mark.min() >= 0 and mark.max() <= 1
        _, pieces = ndimage.label(mark > 0.25, np.ones((3, 3)))
        leaves = np.concatenate([mark[[0, -1]].ravel(), mark[:, [0, -1]].ravel()]).any()  # and may come back elsewhere
        assert pieces <= 1 or leaves


@pytest.mark.parametrize(("seed", "kind"), [(11, 0), (1, 1), (4, 2), (0, 3)])  # noise, stripes, patches, weave
def test_generated_textures(seed, kind):
    assert np.random.default_rng(seed).integers(4) == kind
    first, second = (generated_texture(np.random.default_rng(seed), 64) for _ in range(2))
    assert first.shape == (3, 64, 64) and first.dtype == torch.uint8
    assert torch.equal(first, second) and first.float().std() > 1


def test_shipped_backbone_is_trained_and_small():
    """It tells pictures apart where the same network untrained does not, and its file stays below 4 MB."""
    backbone = Backbone(SMALL, (1, 2, 3), 16)
    load_imagenet(backbone)
    path = ASSETS / f"{SMALL}.safetensors"
    assert path.stat().st_size < 4e6
    card = json.loads(path.with_suffix(".json").read_text())
    told = (ROOT / "weights_card/README.md").read_text()
    assert f"{card['parameters']:,} parameters" in told and all(f"`{name}`" in told for name in bundled())
    assert max(card["held_out"]["error"]) < 1  # closer to the teacher than its mean is, on photos kept apart
    images = torch.stack(
        [torch.from_numpy(demo_image(kind, 0, side=128)[0]).permute(2, 0, 1) / 255 for kind in ("ring", "cloth")]
    )
    ring, cloth = backbone.raw((images - 0.45) / 0.225).flatten(1)
    assert torch.nn.functional.cosine_similarity(ring, cloth, dim=0) < 0.9
