"""Sharing checkpoints with the real Hub client against a Hub on loopback: names, push, cards, faults, and code without us."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from conftest import HUB, ROOT
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from ura_hf import URANetConfig, URANetForAnomalyDetection, URANetImageProcessor, UserError
from ura_hf.cli.main import main
from ura_hf.hub.card import read_record
from ura_hf.hub.download import checkpoint_folder
from ura_hf.hub.load import load_checkpoint, load_detector
from ura_hf.hub.push import here, on_the_hub, push

REPO = "tester/uranet-disc"
LOAD = "import sys; from ura_hf.hub.load import load_detector; print(load_detector(sys.argv[1])(sys.argv[2])['image_score'])"
checks_cards_here = pytest.mark.skipif(
    huggingface_hub.__version__.startswith("1."),
    reason="the Hub client asks huggingface.co alone about cards before 2.0",
)


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    """An empty Hub whose user is logged in, and whose namespace is the one of bare names."""
    HUB.repos.clear()
    HUB.objects.clear()
    HUB.reset()
    HUB.fail_next, HUB.delay, HUB.cut_after, HUB.corrupt = 0, 0.0, None, False
    monkeypatch.setenv("HF_TOKEN", HUB.token)
    monkeypatch.setenv("URA_HF_NAMESPACE", "tester")
    return HUB


@pytest.fixture(scope="session")
def evaluated(checkpoint, category, tmp_path_factory):
    """A checkpoint with its figures."""
    folder = tmp_path_factory.mktemp("evaluated") / "uranet-disc"
    shutil.copytree(checkpoint, folder)
    assert main(["evaluate", str(folder), "--data", str(category), "--save"]) == 0
    return folder


def files_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


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
    assert re.search(rf"tester/uranet-mvtec-pill\s+hub\s+{auroc:.4f}", text)


def test_push_refusals(hub, evaluated, tmp_path, capsys, monkeypatch):
    assert "NAMESPACE/NAME" in fails(capsys, "push", evaluated, "--to", "no-namespace")
    assert "NAMESPACE/NAME" in fails(capsys, "push", evaluated, "--to", "a/b/c")
    assert "one of them" in fails(capsys, "push", "--to", REPO)
    assert "hf auth login" in fails(capsys, "push", evaluated, "--to", "somebody/uranet-disc")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "401" in fails(capsys, "push", evaluated, "--to", REPO)
    assert not hub.repos
    assert "no checkpoint folders" in fails(capsys, "push", "--all", tmp_path, "--to", "tester")


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


@pytest.mark.parametrize(
    "found, expected",
    [
        ({"data": "/home/jane doe/acme/ring"}, {"data": "ring"}),
        ({"data": "//nas/jane doe/ring"}, {"data": "ring"}),
        ({"data": "C:\\jane doe\\acme\\ring"}, {"data": "ring"}),
        ({"options": [{"data": "~/jane doe/ring/"}]}, {"options": [{"data": "ring"}]}),
        ({"note": "read from /srv/acme/x.png, twice"}, {"note": "read from x.png, twice"}),
        (
            {
                "command": shlex.join(
                    ["uranet", "train", "--data", "/home/jane doe/acme", "--output=/srv/a b/out", "a/b", "1/2"]
                )
            },
            {"command": "uranet train --data acme --output=out a/b 1/2"},
        ),
        ({"command": "uranet train --data /home/jane/o'neil"}, {"command": "uranet train --data o'neil"}),
        (
            {"command": "uranet train '--set=backbone=\"/home/jane/x\"'"},
            {"command": "uranet train '--set=backbone=\"x\"'"},
        ),
        ({"note": '{"data": "/home/jane/x"}'}, {"note": '{"data": "x"}'}),
        ({"steps": 600, "address": "https://example.org/a/b"}, {"steps": 600, "address": "https://example.org/a/b"}),
    ],
)
def test_no_absolute_path_leaves_the_machine(tmp_path, found, expected):
    (tmp_path / "training.json").write_text(json.dumps(found))
    assert read_record(tmp_path, "training.json") == expected


@checks_cards_here
def test_a_pull_request_leaves_main_alone(hub, evaluated):
    push(evaluated, REPO)
    before = hub.repos[REPO].at("main")
    URANetForAnomalyDetection.from_pretrained(evaluated).push_to_hub(REPO, create_pr=True)
    assert hub.repos[REPO].at("main") == before
    assert "Not evaluated" in hub.repos[REPO].at("refs/pr/1")[1]["README.md"].decode()
    assert "refs/pr/2" not in hub.repos[REPO].refs


@checks_cards_here
def test_model_and_hub_methods_of_transformers(hub, evaluated, tmp_path):
    URANetForAnomalyDetection.from_pretrained(evaluated).push_to_hub(REPO)
    text = hub.repos[REPO].at("main")[1]["README.md"].decode()
    assert "Not evaluated" in text and "load_detector" not in text and "AutoModel" not in text
    assert f'URANetForAnomalyDetection.from_pretrained("{REPO}")' in text
    assert URANetForAnomalyDetection.from_pretrained(REPO, cache_dir=tmp_path).config.is_calibrated


# Names


def test_order_of_places(hub, evaluated, tmp_path, monkeypatch):
    hub.add_repo("tester/uranet-demo-ring", files_of(evaluated))
    assert checkpoint_folder("uranet-demo-ring").parent.name == "weights"
    monkeypatch.setenv("URA_HF_CHECKPOINTS", str(tmp_path))
    shutil.copytree(evaluated, tmp_path / "uranet-mine")
    assert checkpoint_folder("uranet-mine") == tmp_path / "uranet-mine"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(evaluated, tmp_path / "uranet-demo-ring")
    assert checkpoint_folder("uranet-demo-ring").resolve() == tmp_path / "uranet-demo-ring"
    assert not hub.requests


@pytest.mark.parametrize("name", ["../../nowhere", "a/b/c", "two words", "-rf", "x/../y", "", "a\0b", "C:\\x"])
def test_a_name_that_is_none_never_becomes_a_path(hub, name, tmp_path):
    with pytest.raises((UserError, ValueError)):
        checkpoint_folder(name, cache_dir=tmp_path)
    assert not hub.requests and not list(tmp_path.iterdir())


def test_a_typo_is_answered_with_places_and_near_names(hub, tmp_path):
    with pytest.raises(UserError) as caught:
        load_checkpoint("uranet-mvtec-botle", cache_dir=tmp_path)
    text = str(caught.value)
    assert "uranet-mvtec-bottle" in text and "bundled" in text and "tester/uranet-mvtec-botle" in text
    assert len(hub.requests) == 1


def test_auto_classes_take_a_full_id(hub, evaluated, tmp_path):
    """With this package imported, its own classes load a pushed checkpoint, not the code that came with it."""
    push(evaluated, REPO)
    assert type(AutoConfig.from_pretrained(REPO, cache_dir=tmp_path)) is URANetConfig
    assert type(AutoModel.from_pretrained(REPO, cache_dir=tmp_path)) is URANetForAnomalyDetection
    assert type(AutoImageProcessor.from_pretrained(REPO, cache_dir=tmp_path)) is URANetImageProcessor


def test_bundled_checkpoints_are_listed_with_their_figures():
    assert all(entry.image_auroc is not None for entry in here() if entry.place == "bundled")


def test_a_subfolder_and_a_revision(hub, evaluated, tmp_path):
    first = hub.add_repo(REPO, {f"deep/{name}": data for name, data in files_of(evaluated).items()})
    hub.tag(REPO, "v1", first)
    hub.add_commit(REPO, {}, deleted=["deep/model.safetensors"])
    assert load_checkpoint(REPO, subfolder="deep", revision="v1", cache_dir=tmp_path)[0].config.is_calibrated
    with pytest.raises(UserError, match=r"lacks model\.safetensors"):
        load_checkpoint(REPO, subfolder="deep", cache_dir=tmp_path)
    with pytest.raises(UserError, match="no revision 'v2'"):
        load_checkpoint(REPO, subfolder="deep", revision="v2", cache_dir=tmp_path)
    with pytest.raises(UserError, match="inside the checkpoint"):
        load_checkpoint(REPO, subfolder="../..", cache_dir=tmp_path)


def test_private_gated_and_missing(hub, evaluated, tmp_path, monkeypatch):
    hub.add_repo("tester/private", files_of(evaluated), private=True)
    hub.add_repo("tester/gated", files_of(evaluated), gated=True)
    assert load_checkpoint("tester/private", cache_dir=tmp_path)
    with pytest.raises(UserError, match="is gated: accept its terms"):
        load_checkpoint("tester/gated", cache_dir=tmp_path)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="not there, or private"):
        load_checkpoint("tester/private", cache_dir=tmp_path / "other")
    assert load_checkpoint("tester/private", cache_dir=tmp_path / "other", token=hub.token)
    with pytest.raises(UserError, match="not there, or private"):
        load_checkpoint("tester/nothing", cache_dir=tmp_path)


# The cache and the network


def test_what_is_cached_costs_one_request_or_none(hub, evaluated, category, tmp_path):
    hub.add_repo(REPO, files_of(evaluated))
    load_checkpoint(REPO, cache_dir=tmp_path)
    hub.reset()
    load_checkpoint(REPO, cache_dir=tmp_path)
    assert len(hub.requests) == 1
    hub.reset()
    load_checkpoint(REPO, cache_dir=tmp_path, local_files_only=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    script = [sys.executable, "-c", LOAD, "uranet-disc", str(category / "test/good/000.png")]
    subprocess.run(script, env=environment, cwd=ROOT, check=True, capture_output=True)
    assert not hub.requests


def test_an_interrupted_download_goes_on(hub, evaluated, tmp_path):
    hub.add_repo(REPO, files_of(evaluated))
    hub.cut_after = 11_000_000  # the client keeps whole pieces of 10 MiB
    for _ in range(2):  # the client may go on by itself, or the next load does
        try:
            model, _ = load_checkpoint(REPO, cache_dir=tmp_path)
            break
        except UserError as error:
            assert REPO in str(error)
    assert [header for _, header in hub.ranges] == ["bytes=10485760-"]
    wanted = load_file(evaluated / "model.safetensors")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


def test_a_damaged_download_is_refused_and_not_kept(hub, evaluated, tmp_path):
    files = files_of(evaluated)
    hub.add_repo(REPO, {"model.safetensors": files["model.safetensors"]})
    hub.corrupt = True
    with pytest.raises(UserError, match=r"model.safetensors of .* arrived damaged"):
        checkpoint_folder(REPO, cache_dir=tmp_path)
    hub.add_commit(REPO, files)
    assert load_checkpoint(REPO, cache_dir=tmp_path)[0].config.is_calibrated


def test_server_errors_and_slow_answers(hub, evaluated, tmp_path):
    hub.add_repo(REPO, files_of(evaluated))
    hub.fail_next = 1
    try:
        load_checkpoint(REPO, cache_dir=tmp_path)
    except UserError as error:
        assert REPO in str(error)
    hub.fail_next, hub.delay = 0, 0.3
    assert load_checkpoint(REPO, cache_dir=tmp_path)[0].config.is_calibrated


def test_two_processes_load_at_once(hub, evaluated, category, tmp_path):
    hub.add_repo(REPO, files_of(evaluated))
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path)}
    image = str(category / "test/spot/000.png")
    script = [sys.executable, "-c", LOAD, REPO, image]
    running = [subprocess.Popen(script, env=environment, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    printed = [process.communicate(timeout=240)[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    expected = load_detector(evaluated)(image)["image_score"]
    assert [float(text.split()[-1]) for text in printed] == pytest.approx([expected] * 2, rel=1e-6)


# Safe by form


def test_pickle_is_never_read(hub, evaluated, tmp_path):
    files = files_of(evaluated)
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    hub.add_repo(REPO, files)
    with pytest.raises(UserError, match="pickle file"):
        load_checkpoint(REPO, cache_dir=tmp_path)
    assert not [path for path in tmp_path.rglob("*.bin")]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match="pickle file"):
        URANetForAnomalyDetection.from_pretrained(tmp_path)


def test_absurd_shapes_are_refused_before_anything_is_allocated(evaluated, tmp_path, monkeypatch):
    shutil.copytree(evaluated, tmp_path / "c")
    path = tmp_path / "c/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"hidden_size": 4096, "memory_cells": 1048576, "num_hidden_layers": 64}))
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(UserError, match="do not fit its config"):
        URANetForAnomalyDetection.from_pretrained(tmp_path / "c")
    path.write_text(json.dumps(config))
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    (tmp_path / "c/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match="not a complete"):
        URANetForAnomalyDetection.from_pretrained(tmp_path / "c")


def test_a_config_names_no_other_repository(evaluated):
    with pytest.raises(UserError, match="backbone"):
        URANetConfig(backbone="hf-hub:somebody/model")


def test_tensors_of_another_config_are_named(evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "c")
    tensors = load_file(evaluated / "model.safetensors")
    name = tensors.popitem()[0]
    save_file(tensors, tmp_path / "c/model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=re.escape(name)):
        URANetForAnomalyDetection.from_pretrained(tmp_path / "c")


# Without installing us


def test_remote_code_gives_the_same_scores(hub, evaluated, category, tmp_path):
    push(evaluated, REPO)
    image = category / "test/spot/000.png"
    script = f"""
import sys
for name in ("ura_hf", "weights_card", "scipy", "sklearn", "tifffile", "accelerate", "matplotlib", "gradio"):
    sys.modules[name] = None  # as where only transformers, timm and torch are installed
import torch
from transformers import AutoImageProcessor, AutoModel
model = AutoModel.from_pretrained({REPO!r}, trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained({REPO!r}, trust_remote_code=True)
with torch.no_grad():
    print(float(model(processor([{str(image)!r}], return_tensors="pt")["pixel_values"]).image_score))
"""
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) == pytest.approx(
        load_detector(evaluated)(str(image))["image_score"], rel=1e-6
    )


# The guide


def test_the_guide_is_true(hub, tmp_path):
    """Every command of docs/sharing.md, on few drawn parts and few steps, and the name it ends with."""
    block = re.search(r"```sh\n(.*?)```", (ROOT / "docs/sharing.md").read_text(), re.DOTALL)[1]
    commands = block.strip().splitlines()
    assert len(commands) == 5
    commands[0] = commands[0].replace(
        "--backbone uranet-small",
        "--backbone uranet-small --steps 2 --image-size 64 --grid-size 8 --set memory_cells=64",
    )
    draw = ["demo-data", "--kind", "ring", "--output", str(tmp_path / "photos/ring")]
    assert main([*draw, "--train", "6", "--good", "2", "--each", "1"]) == 0
    hub.namespaces.add("me")
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "hf"),
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
    }
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    assert load_checkpoint("me/uranet-ring", cache_dir=tmp_path / "cache")[0].config.is_calibrated
    assert "Not evaluated" not in hub.repos["me/uranet-ring"].at("main")[1]["README.md"].decode()


def test_the_list_of_an_unreachable_hub(hub, monkeypatch):
    monkeypatch.setattr("ura_hf.hub.push.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="could not be reached"):
        on_the_hub()
