"""Loading checkpoints with the real Hub client from a Hub on loopback: names, the cache, faults, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from hub_server import files_of, tree
from huggingface_hub import constants, snapshot_download
from processes import loading
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from ura_hf import URANetConfig, URANetForAnomalyDetection, URANetImageProcessor, URANetPipeline, UserError
from ura_hf.data.files import ASSETS
from ura_hf.hub import download
from ura_hf.hub.download import checkpoint_folder
from ura_hf.hub.load import load_checkpoint, load_detector
from ura_hf.hub.push import push

REPO = "tester/uranet-disc"
LOAD = "import sys; from ura_hf.hub.load import load_detector; print(load_detector(sys.argv[1])(sys.argv[2])['image_score'])"


@pytest.fixture(autouse=True)
def hub(empty_hub):
    return empty_hub


def asked(hub) -> list[str]:
    """Paths of repositories that were asked for."""
    return [path for _, path in hub.requests if "uranet" in path]


# Names


def test_order_of_places(hub, evaluated, tmp_path, monkeypatch):
    hub.add_repo("tester/uranet-demo-ring", files_of(evaluated))
    assert checkpoint_folder("uranet-demo-ring").parent == ASSETS
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
    assert len(asked(hub)) == 1


def test_auto_classes_take_a_full_id(hub, evaluated, tmp_path):
    """With this package imported, its own classes load a pushed checkpoint, not the code that came with it."""
    push(evaluated, REPO)
    assert type(AutoConfig.from_pretrained(REPO, cache_dir=tmp_path)) is URANetConfig
    assert type(AutoModel.from_pretrained(REPO, cache_dir=tmp_path)) is URANetForAnomalyDetection
    assert type(AutoImageProcessor.from_pretrained(REPO, cache_dir=tmp_path)) is URANetImageProcessor


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
    assert len(asked(hub)) == 1
    hub.reset()
    load_checkpoint(REPO, cache_dir=tmp_path, local_files_only=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    script = [sys.executable, "-c", LOAD, "uranet-disc", str(category / "test/good/000.png")]
    subprocess.run(script, env=environment, cwd=ROOT, check=True, capture_output=True)
    assert not hub.requests


def test_a_config_or_a_processor_fetches_its_own_file_only(hub, evaluated, tmp_path):
    hub.add_repo(REPO, files_of(evaluated))
    for kind, name in ((URANetConfig, "config.json"), (URANetImageProcessor, "preprocessor_config.json")):
        hub.reset()
        kind.from_pretrained(REPO, cache_dir=tmp_path / name)
        assert {path.split("/")[-1] for path in asked(hub) if "/resolve/" in path} == {name}
        assert [path.name for path in (tmp_path / name).rglob("snapshots/*/*")] == [name]


def test_only_new_files_are_hashed(hub, evaluated, tmp_path, monkeypatch):
    hub.add_repo(REPO, files_of(evaluated))
    names = {
        entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]: name
        for name, entry in tree(files_of(evaluated)).items()
    }
    hashed, is_whole = [], download._is_whole
    monkeypatch.setattr(download, "_is_whole", lambda blob: (hashed.append(names[blob.name]), is_whole(blob))[1])
    URANetConfig.from_pretrained(REPO, cache_dir=tmp_path)
    assert hashed == ["config.json"]
    load_checkpoint(REPO, cache_dir=tmp_path)
    assert sorted(hashed[1:]) == ["evaluation.json", "model.safetensors", "preprocessor_config.json", "training.json"]
    hashed.clear()
    load_checkpoint(REPO, cache_dir=tmp_path)
    load_checkpoint(REPO, cache_dir=tmp_path, local_files_only=True)
    assert not hashed
    load_checkpoint(REPO, cache_dir=tmp_path, force_download=True)
    assert len(hashed) == 5


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("size", ["4MB", "1GB"])
def test_shards_and_variants(hub, evaluated, tmp_path, variant, size):
    """From a folder and from the Hub, by the model's class and by AutoModel."""
    dtype = torch.float16 if variant else torch.float32
    model = URANetForAnomalyDetection.from_pretrained(evaluated, dtype=dtype)
    model.save_pretrained(tmp_path / "saved", max_shard_size=size, variant=variant)
    shutil.copy(evaluated / "preprocessor_config.json", tmp_path / "saved")
    shards = list((tmp_path / "saved").glob("*.safetensors"))
    assert (
        len(shards) > 1
        if size == "4MB"
        else [path.stem for path in shards] == [f"model.{variant}" if variant else "model"]
    )
    hub.add_repo(REPO, files_of(tmp_path / "saved"))
    named = {"variant": variant} if variant else {}
    for place in (tmp_path / "saved", REPO):
        for kind in (URANetForAnomalyDetection, AutoModel):
            again = kind.from_pretrained(place, cache_dir=tmp_path / "cache", **named)
            assert type(again) is URANetForAnomalyDetection and again.dtype == torch.float32
            wanted = model.state_dict()
            assert all(torch.equal(value, wanted[name].to(value.dtype)) for name, value in again.state_dict().items())
        for load in (load_detector, URANetPipeline.from_pretrained):
            loaded = load(place, cache_dir=tmp_path / "other", **named).model.cpu()
            assert loaded.dtype == torch.float32 and loaded.config.is_calibrated
            assert all(torch.equal(value, again.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_shard_that_is_missing_is_named(evaluated, tmp_path):
    URANetForAnomalyDetection.from_pretrained(evaluated).save_pretrained(tmp_path, max_shard_size="4MB")
    (tmp_path / "model-00002-of-00006.safetensors").unlink(missing_ok=True)
    shard = sorted(tmp_path.glob("*.safetensors"))[-1]
    shard.unlink()
    with pytest.raises(UserError, match=rf"lacks .*{shard.name}.*fetch the checkpoint again"):
        URANetForAnomalyDetection.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"lacks model\.fp16\.safetensors"):
        URANetForAnomalyDetection.from_pretrained(evaluated, variant="fp16")


def test_offline_is_not_a_fault_of_the_network(hub, evaluated, tmp_path, monkeypatch):
    hub.add_repo(REPO, files_of(evaluated))
    with pytest.raises(UserError, match="not in the cache, and not asked because of local_files_only"):
        load_checkpoint(REPO, cache_dir=tmp_path, local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in (REPO, "uranet-disc"):
        with pytest.raises(UserError, match="not in the cache, and not asked because of HF_HUB_OFFLINE=1") as caught:
            load_checkpoint(name, cache_dir=tmp_path)
        assert "network" not in str(caught.value)
    assert not asked(hub)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    URANetConfig.from_pretrained(REPO, cache_dir=tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"because of HF_HUB_OFFLINE=1|lacks preprocessor_config\.json"):
        load_checkpoint(REPO, cache_dir=tmp_path)


def test_bare_names_belong_to_nobody_without_a_namespace(hub, evaluated, tmp_path, monkeypatch):
    """Else whoever registers a namespace would serve them to everyone."""
    monkeypatch.delenv("URA_HF_NAMESPACE")
    for owner in ("uranet", "ura-net", "tester"):
        hub.add_repo(f"{owner}/uranet-mvtec-cable", files_of(evaluated))
    for load in (load_detector, URANetConfig.from_pretrained, URANetForAnomalyDetection.from_pretrained):
        with pytest.raises(UserError, match=r"`uranet benchmark .* --categories cable` trains it, or pass"):
            load("uranet-mvtec-cable", cache_dir=tmp_path)
        with pytest.raises(UserError, match="pass NAMESPACE/NAME, or set URA_HF_NAMESPACE"):
            load("my-part", cache_dir=tmp_path)
    assert not hub.requests
    monkeypatch.setenv("URA_HF_NAMESPACE", "tester")
    assert load_detector("uranet-mvtec-cable", cache_dir=tmp_path).model.config.is_calibrated


@pytest.mark.parametrize("text", ["[1]", "{", '{"dtype": "floatx"}', '{"return_dict": 3, "image_size": "x"}'])
def test_a_damaged_config_is_named(evaluated, tmp_path, text):
    shutil.copytree(evaluated, tmp_path / "c")
    (tmp_path / "c/config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        load_detector(tmp_path / "c")


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
    hub.corrupt = 1
    with pytest.raises(UserError, match=r"model.safetensors of .* arrived damaged"):
        checkpoint_folder(REPO, cache_dir=tmp_path)
    hub.add_commit(REPO, files)
    assert load_checkpoint(REPO, cache_dir=tmp_path)[0].config.is_calibrated


def test_every_damaged_file_of_a_download_is_named_and_removed(hub, evaluated, tmp_path):
    files = files_of(evaluated)
    hub.add_repo(REPO, files)
    hub.corrupt = len(files)
    with pytest.raises(UserError, match=r"config.json, evaluation.json, model.safetensors, .* arrived damaged"):
        checkpoint_folder(REPO, cache_dir=tmp_path)
    hub.corrupt = 0
    folder = checkpoint_folder(REPO, cache_dir=tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: data for name, data in files.items() if (folder / name).exists()
    }
    assert load_checkpoint(REPO, cache_dir=tmp_path)[0].config.is_calibrated


@pytest.mark.parametrize("offline", [False, True])
def test_files_that_nobody_compared_are_compared_at_the_next_load(hub, evaluated, tmp_path, offline):
    """As after a process that was stopped between the download and the comparison."""
    hub.add_repo(REPO, files_of(evaluated))
    hub.corrupt = 100
    snapshot_download(REPO, cache_dir=tmp_path)
    hub.corrupt = 0
    with pytest.raises(UserError, match=r"model.safetensors, .* arrived damaged"):
        load_checkpoint(REPO, cache_dir=tmp_path, local_files_only=offline)
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
    image = str(category / "test/spot/000.png")
    scores = [tmp_path / f"{number}.txt" for number in range(2)]
    running = [loading(REPO, tmp_path / "cache", image, score) for score in scores]
    for process in running:
        process.join(240)
    assert all(process.exitcode == 0 for process in running)
    expected = load_detector(evaluated)(image)["image_score"]
    assert [float(score.read_text()) for score in scores] == pytest.approx([expected] * 2, rel=1e-6)


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
