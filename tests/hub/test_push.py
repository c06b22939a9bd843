"""Uploads with the real Hub client to a Hub on loopback, and the cards that go along."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import torch
from conftest import ROOT, tiny_config
from huggingface_hub import ModelCard
from PIL import Image

from ura_hf import URANetForAnomalyDetection, UserError
from ura_hf.cli.main import main
from ura_hf.hub.card import make_card
from ura_hf.hub.load import load_checkpoint, load_detector
from ura_hf.hub.push import push, upload_errors, write_checkpoint_zip
from ura_hf.model import carrying

CODE = [path.name for path in Path(carrying.__file__).parent.glob("*.py") if path.name != "__init__.py"]
REPO = "tester/uranet-disc"
checks_cards_here = pytest.mark.skipif(
    huggingface_hub.__version__.startswith("1."),
    reason="the Hub client asks huggingface.co alone about cards before 2.0",
)


@pytest.fixture(autouse=True)
def hub(empty_hub):
    return empty_hub


def fails(capsys, *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


# Push, card, list


def test_push_gives_the_same_detector_back(hub, evaluated, category, tmp_path, capsys):
    assert main(["push", str(evaluated), "--to", REPO]) == 0
    assert REPO in capsys.readouterr().out
    files = hub.repos[REPO].at("main")[1]
    assert {
        "README.md",
        "config.json",
        "model.safetensors",
        "modeling_uranet.py",
        "pretrained.py",
        "figure.png",
    } <= files.keys()
    assert files["model.safetensors"] == (evaluated / "model.safetensors").read_bytes()
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    assert str(category.parent).encode() not in files["training.json"] + files["README.md"]
    image = str(category / "test/spot/000.png")
    here, there = load_detector(evaluated)(image), load_detector("uranet-disc", cache_dir=tmp_path)(image)
    assert here["image_score"] == there["image_score"] and (here["anomaly_map"] == there["anomaly_map"]).all()


@checks_cards_here
def test_the_card_says_what_was_measured(hub, evaluated):
    push(evaluated, REPO)
    card = ModelCard(hub.repos[REPO].at("main")[1]["README.md"].decode())
    card.validate()  # by the Hub's own check
    figures = json.loads((evaluated / "evaluation.json").read_text())
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {key: round(figures[key], 4) for key in found} and len(found) == 7
    assert card.data.library_name == "ura-hf" and card.data.pipeline_tag == "image-anomaly-detection"
    assert card.data.license == "other" and f"{figures['image_auroc']:.4f}" in card.text
    config = json.loads((evaluated / "config.json").read_text())
    assert f"{config['image_threshold']:.6g}" in card.text and "false-positive rate of 0.05" in card.text


def test_a_checkpoint_without_figures_says_so(checkpoint, capsys):
    assert main(["card", str(checkpoint), "--to", "you/uranet-mvtec-bottle"]) == 0
    text = capsys.readouterr().out
    assert "Not evaluated" in text and "model-index" not in text
    assert "license: cc-by-nc-sa-4.0" in text and "Bergmann" in text


def test_push_again_sends_no_weights(hub, evaluated):
    push(evaluated, REPO)
    hub.reset()
    push(evaluated, REPO)
    assert not [path for method, path in hub.requests if method == "PUT"]
    trees = list(hub.repos[REPO].commits.values())
    assert trees[-1] == trees[1]


def test_push_of_a_whole_folder_and_the_list(hub, evaluated, tmp_path, capsys):
    for name in ("uranet-mvtec-bottle", "uranet-mvtec-pill"):
        shutil.copytree(evaluated, tmp_path / name)
    assert main(["push", "--all", str(tmp_path), "--to", "tester", "--private"]) == 0
    assert {"tester/uranet-mvtec-bottle", "tester/uranet-mvtec-pill"} == set(hub.repos)
    assert all(repo.private for repo in hub.repos.values())
    capsys.readouterr()
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "uranet-demo-ring" in text and "bundled" in text
    auroc = json.loads((evaluated / "evaluation.json").read_text())["image_auroc"]
    assert re.search(rf"tester/uranet-mvtec-pill\s+hub\s+\S+\s+{auroc:.4f}", text)


def test_push_refusals(hub, evaluated, tmp_path, capsys, monkeypatch):
    assert "NAMESPACE/NAME" in fails(capsys, "push", evaluated, "--to", "no-namespace")
    assert "NAMESPACE/NAME" in fails(capsys, "push", evaluated, "--to", "a/b/c")
    assert "one of them" in fails(capsys, "push", "--to", REPO)
    assert "hf auth login" in fails(capsys, "push", evaluated, "--to", "somebody/uranet-disc")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "401" in fails(capsys, "push", evaluated, "--to", REPO)
    assert not hub.repos
    assert "no checkpoint folders" in fails(capsys, "push", "--all", tmp_path, "--to", "tester")
    assert "--to must be a NAMESPACE, but got me/x" in fails(capsys, "push", "--all", tmp_path, "--to", "me/x")
    (tmp_path / "seed0/uranet-disc").mkdir(parents=True)
    (tmp_path / "seed0/uranet-disc/model.safetensors").touch()
    assert f"itself: pass {tmp_path / 'seed0'}." in fails(capsys, "push", "--all", tmp_path, "--to", "tester")


def test_what_the_hub_says_of_a_card_is_one_sentence():
    with pytest.raises(UserError) as caught, upload_errors("me/x"):
        raise ValueError("license must be\none of many")
    assert str(caught.value) == "me/x could not be uploaded (license must be one of many): correct that and repeat."
    with pytest.raises(UserError) as caught, upload_errors("me/x"):
        raise UserError("mine")
    assert str(caught.value) == "mine"


def test_a_zip_has_no_paths_of_its_owner(evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "c")
    record = json.loads((tmp_path / "c/training.json").read_text()) | {
        "command": "uranet train --data /srv/acme/photos"
    }
    (tmp_path / "c/training.json").write_text(json.dumps(record))
    write_checkpoint_zip(tmp_path / "c", "mine", tmp_path / "c.zip")
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        assert json.loads(archive.read("mine/training.json"))["command"] == "uranet train --data photos"
        assert archive.read("mine/model.safetensors") == (evaluated / "model.safetensors").read_bytes()


def test_push_again_takes_figures_of_older_weights_away(hub, evaluated, tmp_path):
    push(evaluated, REPO)
    files = hub.repos[REPO].at("main")[1]
    hub.add_commit(REPO, {"notes.txt": b"the owner's"})
    shutil.copytree(evaluated, tmp_path / "again")
    (tmp_path / "again/evaluation.json").unlink()
    push(tmp_path / "again", REPO)
    left = hub.repos[REPO].at("main")[1]
    assert set(left) == set(files) - {"evaluation.json", "figure.png"} | {"notes.txt"}
    assert "Not evaluated" in left["README.md"].decode() and left["model.safetensors"] == files["model.safetensors"]


@checks_cards_here
def test_a_pull_request_leaves_main_alone(hub, evaluated):
    push(evaluated, REPO)
    before = hub.repos[REPO].at("main")
    URANetForAnomalyDetection.from_pretrained(evaluated).push_to_hub(REPO, create_pr=True)
    assert hub.repos[REPO].at("main") == before
    assert "Not evaluated" in hub.repos[REPO].at("refs/pr/1")[1]["README.md"].decode()
    assert "refs/pr/2" not in hub.repos[REPO].refs


@checks_cards_here
def test_a_model_that_is_pushed_brings_all_that_loads_it(hub, evaluated, tmp_path):
    """Image processor, code and our card in one commit; figures are of a folder, and nobody knows those of a model in memory."""
    URANetForAnomalyDetection.from_pretrained(evaluated).push_to_hub(REPO)
    files = hub.repos[REPO].at("main")[1]
    assert len(hub.repos[REPO].commits) == 2  # that of the new repository, and this one
    text = files["README.md"].decode()
    assert "Not evaluated" in text and f'load_detector("{REPO}")' in text and "trust_remote_code=True" in text
    assert files["preprocessor_config.json"] != (evaluated / "preprocessor_config.json").read_bytes()  # its auto_map
    assert set(CODE) <= set(files)
    again = load_detector(REPO, cache_dir=tmp_path)
    image = Image.new("RGB", (64, 64))
    assert again(image)["score"] == load_detector(evaluated)(image)["score"]


@checks_cards_here
def test_model_and_image_processor_pushed_apart(hub, evaluated, tmp_path):
    detector = load_detector(evaluated)
    detector.model.save_pretrained(tmp_path / "bare")
    model = URANetForAnomalyDetection.from_pretrained(tmp_path / "bare")
    model.push_to_hub(REPO)
    text = hub.repos[REPO].at("main")[1]["README.md"].decode()
    assert "pushed without its image processor" in text and "load_detector" not in text
    assert f'URANetForAnomalyDetection.from_pretrained("{REPO}")' in text
    assert URANetForAnomalyDetection.from_pretrained(REPO, cache_dir=tmp_path).config.is_calibrated
    with pytest.raises(UserError, match=r"lacks preprocessor_config\.json"):
        load_detector(REPO, cache_dir=tmp_path)
    detector.image_processor.push_to_hub(REPO)
    processor = json.loads(hub.repos[REPO].at("main")[1]["preprocessor_config.json"])
    assert processor["auto_map"] == {"AutoImageProcessor": "image_processing_uranet.URANetImageProcessor"}
    assert load_detector(REPO, cache_dir=tmp_path)(Image.new("RGB", (64, 64)))["label"]


@checks_cards_here
def test_an_image_processor_alone_brings_its_code(hub, evaluated):
    load_detector(evaluated).image_processor.push_to_hub(REPO)
    files = hub.repos[REPO].at("main")[1]
    assert set(CODE) <= set(files) and "config.json" not in files


@checks_cards_here
def test_a_pipeline_pushes_all(hub, evaluated, tmp_path):
    load_detector(evaluated).push_to_hub(REPO)
    files = hub.repos[REPO].at("main")[1]
    assert set(CODE) <= set(files) and "custom_pipelines" in json.loads(files["config.json"])
    assert f'load_detector("{REPO}")' in files["README.md"].decode()
    assert load_detector(REPO, cache_dir=tmp_path)(Image.new("RGB", (64, 64)))["label"]


def test_a_damaged_config_or_record_makes_no_card(evaluated, tmp_path):
    """One sentence that names the file, in place of a traceback or of a card that says what nobody measured."""
    for name, text in (
        ("evaluation.json", "[1]"),
        ("evaluation.json", "{"),
        ("config.json", '{"image_threshold": "x"}'),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(evaluated, folder)
        (folder / name).write_text(text)
        with pytest.raises(UserError, match=name):
            make_card(folder, REPO)
        with pytest.raises(UserError, match=name):
            push(folder, REPO)
    config = json.loads((evaluated / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pixel_threshold": None}))
    assert "was not calibrated" in make_card(folder, REPO).text


# What a second push replaces


def in_repo(hub, ref: str = "main") -> dict[str, bytes]:
    return hub.repos[REPO].at(ref)[1]


@pytest.fixture
def model(evaluated):
    return URANetForAnomalyDetection.from_pretrained(evaluated)


@checks_cards_here
@pytest.mark.parametrize("way", ["push", "push_to_hub"])
@pytest.mark.parametrize("sizes", [("1GB", "4MB"), ("4MB", "1GB"), ("4MB", "8MB")])
def test_weights_in_another_form_replace_the_older_ones(hub, evaluated, model, tmp_path, way, sizes):
    """Else the older ones are loaded from then on, as they are looked for first."""
    for size in sizes:
        with torch.no_grad():
            model.uranet.views.memory.cells.add_(1)
        if way == "push_to_hub":
            model.push_to_hub(REPO, max_shard_size=size)
            continue
        folder = tmp_path / size
        model.save_pretrained(folder, max_shard_size=size)
        shutil.copy(evaluated / "preprocessor_config.json", folder)
        push(folder, REPO)
    again = load_checkpoint(REPO, cache_dir=tmp_path / "cache")[0].cpu().state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    model.save_pretrained(tmp_path / "wanted", max_shard_size=sizes[1])
    weights = {name for name in in_repo(hub) if name.startswith("model.") or "-of-" in name}
    assert weights == {path.name for path in (tmp_path / "wanted").glob("model*")}


@checks_cards_here
def test_a_model_that_is_pushed_takes_figures_of_older_weights_away(hub, evaluated, model):
    push(evaluated, REPO)
    hub.add_commit(REPO, {"notes.txt": b"the owner's", "model.fp16.safetensors": b"of the older weights"})
    before = set(in_repo(hub))
    with torch.no_grad():
        model.uranet.views.memory.cells.add_(1)
    model.push_to_hub(REPO)
    gone = {"evaluation.json", "training.json", "figure.png", "model.fp16.safetensors"}
    assert set(in_repo(hub)) == before - gone and "notes.txt" in in_repo(hub)
    assert "Not evaluated" in in_repo(hub)["README.md"].decode()


@checks_cards_here
def test_a_model_saved_over_an_older_one_is_pushed_without_its_records(hub, evaluated, model, tmp_path):
    folder = shutil.copytree(evaluated, tmp_path / "uranet-disc")
    model.save_pretrained(folder, push_to_hub=True, repo_id=REPO)
    assert not {"evaluation.json", "training.json"} & set(in_repo(hub))
    assert "Not evaluated" in in_repo(hub)["README.md"].decode() and set(CODE) <= set(in_repo(hub))
    assert not list(folder.glob("*.py"))


@checks_cards_here
def test_a_variant_leaves_the_main_weights_their_figures(hub, evaluated, model, tmp_path):
    push(evaluated, REPO)
    before = in_repo(hub)
    model.half().save_pretrained(tmp_path / "half", variant="fp16", push_to_hub=True, repo_id=REPO)
    left = in_repo(hub)
    assert set(left) == {*before, "model.fp16.safetensors"}
    assert all(left[name] == before[name] for name in ("README.md", "evaluation.json", "model.safetensors"))
    assert load_detector(REPO, variant="fp16", cache_dir=tmp_path / "cache").model.config.is_calibrated


@checks_cards_here
def test_a_model_is_pushed_to_a_branch(hub, evaluated, model):
    push(evaluated, REPO)
    before = in_repo(hub)
    model.push_to_hub(REPO, revision="next", commit_message="Try this")
    assert in_repo(hub) == before and "evaluation.json" not in in_repo(hub, "next")


@checks_cards_here
def test_a_new_model_takes_no_image_processor_of_the_working_folder(hub, evaluated, monkeypatch):
    monkeypatch.chdir(evaluated)
    URANetForAnomalyDetection(tiny_config()).push_to_hub(REPO)
    assert "config.json" in in_repo(hub) and "preprocessor_config.json" not in in_repo(hub)


def test_a_sharded_checkpoint_without_whole_weights_is_found_and_pushed_as_it_is(hub, evaluated, model, tmp_path):
    folder = tmp_path / "all/uranet-disc"
    model.save_pretrained(folder, max_shard_size="4MB")
    shutil.copy(evaluated / "preprocessor_config.json", folder)
    assert main(["push", "--all", str(folder.parent), "--to", "tester"]) == 0
    assert {path.name for path in folder.glob("model*")} <= set(in_repo(hub))
    shutil.copy(evaluated / "model.safetensors", folder)  # from now on the shards are not what is loaded
    push(folder, REPO)
    assert not [name for name in in_repo(hub) if "index" in name or "-of-" in name]


# The guide


def test_the_guide_is_true(hub, tmp_path, monkeypatch):
    """Every command that docs/deploy.md shares a checkpoint by, on few drawn parts and few steps, and the name it ends with."""
    block = re.search(r"## Share a checkpoint.*?```sh\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.DOTALL)[1]
    commands = block.strip().splitlines()
    assert len(commands) == 5
    commands[0] = commands[0].replace(
        "--backbone uranet-small",
        "--backbone uranet-small --steps 2 --image-size 64 --grid-size 8 --set memory_cells=64",
    )
    draw = ["demo-data", "--kind", "ring", "--output", str(tmp_path / "drawn/ring")]
    assert main([*draw, "--train", "6", "--good", "2", "--each", "1"]) == 0
    hub.namespaces.add("you")
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "hf"),
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
    }
    monkeypatch.chdir(tmp_path)
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "uranet":
            assert main(arguments) == 0, command
            continue
        done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    assert load_checkpoint("you/uranet-ring", cache_dir=tmp_path / "cache")[0].config.is_calibrated
    assert "Not evaluated" not in hub.repos["you/uranet-ring"].at("main")[1]["README.md"].decode()
