"""Training: same seed, same weights; a killed run resumes to the same result; thresholds are those of what was saved."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import socket
import time
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from conftest import draw_part, tiny_config
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from processes import uranet
from safetensors.torch import load_file, save_file

from ura_hf import URANetConfig, URANetForAnomalyDetection, UserError, load_detector
from ura_hf.data import textures
from ura_hf.data.progress import Cancelled
from ura_hf.hub.load import load_checkpoint
from ura_hf.model.backbone import Backbone
from ura_hf.training import fit as fitting
from ura_hf.training import material
from ura_hf.training import train as training_module
from ura_hf.training.batches import FeatureBatches
from ura_hf.training.features import cached_features, channel_statistics
from ura_hf.training.objective import Learner
from ura_hf.training.options import TrainingOptions
from ura_hf.training.train import make_processor, train
from ura_hf.training.trainer import SeedEveryProcess, use_bf16

SETTINGS = ["--image-size", "64", "--grid-size", "8", "--batch-size", "4", "--backbone", "resnet18"] + [
    f"--set={field}"
    for field in (
        "hidden_size=32",
        "num_hidden_layers=1",
        "num_attention_heads=2",
        "memory_tokens=16",
        "components=32",
        "place_components=8",
        "memory_cells=32",
        "image_rank=8",
        "smoothing_sigma=2.0",
        "perception_size=16",
    )
]


DECODER = "uranet.restoration.decode.weight"


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folder of texture photos, in a subfolder."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deep").mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "deep" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(category, photos, resnet18_weights, tmp_path_factory):
    """Options and folder of a finished run of 12 steps."""
    output = tmp_path_factory.mktemp("run") / "disc"
    options = TrainingOptions(
        category, output, resnet18_weights, photos, steps=12, batch_size=4, save_every=5, precision="fp32"
    )
    record = train(options, tiny_config())
    return options, output, record


def test_writes_a_calibrated_checkpoint_and_its_record(trained):
    _, output, record = trained
    model, processor = load_checkpoint(output)
    assert model.config.is_calibrated
    assert processor.size.height == 64
    assert record["images"] == {"fitted": 12}
    assert record == json.loads((output / "training.json").read_text())
    assert not (output / "unfinished").exists()
    first, last = record["losses"][0], record["losses"][-1]
    assert last["restoration_loss"] < first["restoration_loss"]


def test_backbone_is_the_given_one_and_never_moves(trained, resnet18_weights):
    _, output, _ = trained
    given, saved = load_file(resnet18_weights), weights(output)
    for name, tensor in given.items():
        assert torch.equal(saved[f"uranet.extractor.cnn.{name}"], tensor), name


def test_same_seed_same_weights_other_seed_other_weights(trained, tmp_path):
    options, output, _ = trained
    again = TrainingOptions(**{**vars(options), "output": tmp_path / "again"})
    train(again, tiny_config())
    assert_same(weights(output), weights(again.output))
    other = TrainingOptions(**{**vars(options), "output": tmp_path / "other", "seed": 1})
    train(other, tiny_config())
    assert not torch.equal(weights(output)[DECODER], weights(other.output)[DECODER])


def test_loading_in_other_processes_changes_nothing(trained, tmp_path, monkeypatch):
    """As beside a GPU."""
    options, output, _ = trained
    monkeypatch.setattr("ura_hf.training.trainer.loading_processes", lambda: 2)
    record = train(TrainingOptions(**{**vars(options), "output": tmp_path / "again"}), tiny_config())
    assert_same(weights(output), weights(tmp_path / "again"))
    assert record["good_images"] == 12 and 0 < record["data_wait_share"] < 1


def test_the_record_is_there_before_the_cleaning(category, resnet18_weights, tmp_path, monkeypatch):
    """So that a run killed amid gigabytes of features has lost nothing."""
    found = []
    remove = shutil.rmtree

    def rmtree(folder, **options):
        found.append((tmp_path / "o/training.json").exists())
        remove(folder, **options)

    monkeypatch.setattr("ura_hf.training.finish.shutil.rmtree", rmtree)
    train(TrainingOptions(category, tmp_path / "o", resnet18_weights, steps=1), tiny_config())
    assert found == [True] and not (tmp_path / "o/unfinished").exists()


def test_a_full_disk_is_noticed_before_the_features_are_computed(category, resnet18_weights, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    options = TrainingOptions(category, tmp_path / "o", resnet18_weights, steps=1)
    with pytest.raises(UserError, match=r"features of 12 images need .* GB .* 0\.0 GB is free"):
        train(options, tiny_config())


def test_killed_run_resumes_to_the_uninterrupted_result(trained, tmp_path):
    options, output, _ = trained
    resumed = tmp_path / "resumed"
    arguments = ["--data", options.data, "--output", resumed, "--backbone-weights", options.backbone_weights]
    arguments += ["--steps", 12, "--save-every", 5, "--precision", "fp32", "--textures", options.textures]
    process = uranet("train", *SETTINGS, *arguments)
    saved = resumed / "unfinished" / "checkpoint-5" / "trainer_state.json"
    deadline = time.monotonic() + 300
    while not saved.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert saved.exists()
    assert not (resumed / "training.json").exists(), "the run finished before it could be killed"
    torn = resumed / "unfinished" / "checkpoint-11"  # as a kill in the middle of a save leaves it
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"torn")
    record = train(TrainingOptions(**{**vars(options), "output": resumed}), tiny_config())
    assert record["resumed"]
    assert_same(weights(output), weights(resumed))


def test_unfinished_run_with_other_options_is_not_continued(trained, tmp_path):
    options, _, _ = trained
    ticket = tmp_path / "out" / "unfinished" / "options.json"
    ticket.parent.mkdir(parents=True)
    ticket.write_text("{}")
    (ticket.parent / "checkpoint-5").mkdir()
    (ticket.parent / "checkpoint-5/trainer_state.json").write_text("{}")
    with pytest.raises(UserError, match="other options"):
        train(TrainingOptions(**{**vars(options), "output": tmp_path / "out"}), tiny_config())


def test_unfinished_run_on_other_images_is_not_continued(trained, tmp_path, monkeypatch):
    options, _, _ = trained
    data, another = tmp_path / "data", options.data / "test/good/000.png"
    shutil.copytree(options.data / "train/good", data)
    options = TrainingOptions(**{**vars(options), "data": data, "output": tmp_path / "out"})
    monkeypatch.setattr(training_module, "calibrate_score", lambda *_: 1 / 0)  # the run dies after a save
    with pytest.raises(ZeroDivisionError):
        train(options, tiny_config())
    shutil.copy(another, data / "new.png")
    with pytest.raises(UserError, match="other options, images or backbone weights"):
        train(options, tiny_config())


def test_unfinished_run_on_another_backbone_is_not_continued(trained, resnet18_weights, tmp_path, monkeypatch):
    """A package of a later version may bring other weights of the same name."""
    options, _, _ = trained
    path = shutil.copy(resnet18_weights, tmp_path / "backbone.safetensors")
    options = TrainingOptions(**{**vars(options), "backbone_weights": path, "output": tmp_path / "out"})
    monkeypatch.setattr(training_module, "calibrate_score", lambda *_: 1 / 0)  # the run dies after a save
    with pytest.raises(ZeroDivisionError):
        train(options, tiny_config())
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match="other options, images or backbone weights"):
        train(options, tiny_config())


def test_finished_checkpoint_is_not_overwritten(trained):
    options, output, _ = trained
    before = weights(output)
    (output / "unfinished").mkdir()  # as of a run that was killed while it removed it
    with pytest.raises(UserError, match="already holds a trained checkpoint"):
        train(options, tiny_config())
    assert_same(weights(output), before)
    assert not (output / "unfinished").exists()


def test_backbone_runs_once_an_image(category, resnet18_weights, tmp_path, monkeypatch):
    seen, plain = [], Backbone.raw
    monkeypatch.setattr(Backbone, "raw", lambda self, pixels: seen.append(len(pixels)) or plain(self, pixels))
    train(
        TrainingOptions(category, tmp_path / "o", resnet18_weights, steps=8, batch_size=4, pose="fixed"), tiny_config()
    )
    assert sum(seen) == 12 + textures.TEXTURE_COUNT


def test_good_images_are_normal_and_files_are_readable(trained):
    """With twelve images and a rate of 5 % the threshold lies above the scores of all, by views that have not seen them."""
    options, output, record = trained
    model, processor = load_checkpoint(output)
    paths = sorted((options.data / "train/good").iterdir())
    with torch.no_grad():
        scores = model(processor(paths, return_tensors="pt")["pixel_values"]).image_score
    assert record["thresholds"]["image"] == model.config.image_threshold
    assert scores.max() < model.config.image_threshold < 100
    assert (output / "model.safetensors").stat().st_mode & 0o777 == (output / "config.json").stat().st_mode & 0o777


def test_channel_statistics_use_the_chosen_rows_only():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (6, 4, 5, 5)).astype(np.float16)
    features[5] = 1000
    mean, std = channel_statistics(features, [0, 1, 2, 3, 4])
    chosen = features[:5].astype(np.float64)
    np.testing.assert_allclose(mean, chosen.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(std, chosen.std((0, 2, 3)), rtol=1e-5)


def test_two_processes_train_one_checkpoint(category, resnet18_weights, tmp_path):
    """With the environment that `accelerate launch` and `torchrun` give them; a launcher runs in tests/benchmark."""
    output = tmp_path / "two"
    arguments = ["--data", category, "--output", output, "--backbone-weights", resnet18_weights, "--steps", 3]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    running = []
    for rank in ("0", "1"):
        own = {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "1"}
        said = str(tmp_path / f"{rank}.txt")
        running.append(uranet("train", *SETTINGS, *arguments, errors=said, environment=shared | own))
    for rank, process in enumerate(running):
        process.join(300)
        assert process.exitcode == 0, (tmp_path / f"{rank}.txt").read_text()[-6000:]
    record = json.loads((output / "training.json").read_text())
    assert record["processes"] == 2
    assert load_checkpoint(output)[0].config.is_calibrated


def test_progress_hears_of_every_stage_and_of_the_losses(category, resnet18_weights, tmp_path):
    heard = []
    options = TrainingOptions(category, tmp_path / "o", resnet18_weights, steps=10, batch_size=4)
    record = train(options, tiny_config(), progress=lambda *event: heard.append(event))
    stages = list(dict.fromkeys(event[0] for event in heard))
    assert stages == [
        "copies",
        "training features",
        "texture features",
        "memory",
        "training",
        "pictures",
        "calibration",
    ]
    assert all(0 <= event[1] <= event[2] for event in heard)
    steps = [event for event in heard if event[0] == "training"]
    assert [event[1] for event in steps if len(event) == 3] == list(range(1, 11))
    losses = [event[3] for event in steps if len(event) == 4]
    assert losses == [{k: v for k, v in entry.items() if k.endswith("_loss")} for entry in record["losses"]]


@pytest.mark.parametrize("stage", ["training features", "memory", "training", "pictures", "calibration"])
def test_a_cancelled_run_leaves_no_checkpoint_and_can_go_on(category, resnet18_weights, tmp_path, stage):
    def stop(now, done, total, losses=None):
        if now == stage and done >= total // 2:
            raise Cancelled

    options = TrainingOptions(category, tmp_path / "o", resnet18_weights, steps=4, batch_size=4)
    with pytest.raises(Cancelled):
        train(options, tiny_config(), progress=stop)
    assert not list((tmp_path / "o").glob("*.safetensors")) and not (tmp_path / "o/training.json").exists()
    with pytest.raises(UserError, match=r"config\.json|model\.safetensors"):
        load_checkpoint(tmp_path / "o")
    train(options, tiny_config())
    assert load_checkpoint(tmp_path / "o")[0].config.is_calibrated


def test_few_images_still_train(category, resnet18_weights, tmp_path):
    record = train(
        TrainingOptions(category, tmp_path / "few", resnet18_weights, steps=2, batch_size=4, limit=2), tiny_config()
    )
    assert record["images"] == {"fitted": 2}


def test_texture_photos_reach_the_model(category, photos, resnet18_weights, tmp_path, monkeypatch):
    seen, plain = [], Learner.forward

    def spy(self, components, textures):
        seen.append(textures)
        return plain(self, components, textures)

    monkeypatch.setattr(Learner, "forward", spy)
    options = TrainingOptions(category, tmp_path / "o", resnet18_weights, photos, steps=2, batch_size=4)
    train(options, tiny_config())
    model, processor = load_checkpoint(tmp_path / "o")
    pixels = processor(sorted((photos / "deep").iterdir()), return_tensors="pt")["pixel_values"]
    views = model.uranet.views
    wanted = views.standardize(views.project(model.uranet.extract(pixels)))
    assert len(seen) == 2
    for drawn in (texture for batch in seen for texture in batch):
        gaps = [float((drawn - one).abs().mean()) for one in wanted]
        assert min(gaps) < 1e-3 < 0.1 * max(gaps)  # one of the photos, rounded to float16


def test_a_second_run_finds_the_generated_textures_in_the_cache(category, resnet18_weights, tmp_path):
    for name in ("first", "second"):
        options = TrainingOptions(
            category, tmp_path / name, resnet18_weights, steps=1, batch_size=2, limit=2, cache=tmp_path / "cache"
        )
        train(options, tiny_config())
    assert len(list((tmp_path / "cache").glob("texture-*.npy"))) == 1


def test_photos_of_scikit_image_are_the_default_source(category, resnet18_weights, tmp_path, monkeypatch):
    """In pieces; generated textures still stand for all that is not the part, so `unknown` stays as it is."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "brick.png")
    limits = []
    for source, photos in (("generated", []), ("photos of scikit-image", [tmp_path / "brick.png"])):
        monkeypatch.setattr(material, "packaged_photos", lambda photos=photos: photos)
        output, cache = tmp_path / source, tmp_path / f"cache of {source}"
        options = TrainingOptions(category, output, resnet18_weights, steps=2, batch_size=4, cache=cache)
        assert train(options, tiny_config())["textures"] == source
        limits.append(URANetConfig.from_pretrained(output).strangeness)
        shapes = sorted(len(np.load(file)) for file in cache.glob("texture-*.npy"))
        assert shapes == [2, textures.TEXTURE_COUNT][-1 - bool(photos) :]
    assert limits[0] is not None and limits[0] == pytest.approx(limits[1])


def test_a_cache_that_is_a_file_is_named(category, resnet18_weights, tmp_path):
    (tmp_path / "cache").touch()
    options = TrainingOptions(category, tmp_path / "o", resnet18_weights, limit=2, cache=tmp_path / "cache")
    with pytest.raises(UserError, match="cache can't be a folder of features"):
        train(options, tiny_config())


@pytest.mark.parametrize("rate", [1e12, 1e30])
def test_a_diverged_training_leaves_no_checkpoint(category, resnet18_weights, tmp_path, rate):
    options = TrainingOptions(category, tmp_path / "o", resnet18_weights, steps=10, batch_size=2, learning_rate=rate)
    with pytest.raises(UserError, match=r"diverged.*Choose a learning rate below"):
        train(options, tiny_config())
    assert not (tmp_path / "o/training.json").exists()


@pytest.mark.parametrize(
    ("backbone", "mean"),
    [
        ("resnet18", 0.485),
        ("uranet-small", 0.485),
        ("tf_efficientnetv2_s.in1k", 0.5),
        ("vit_tiny_patch16_224", 0.5),
        ("resnet18.no_such_tag", 0.485),
    ],
)
def test_images_are_normalised_as_the_backbone_was_trained(tmp_path, backbone, mean):
    processor = make_processor(TrainingOptions(tmp_path, tmp_path / "o"), URANetConfig(backbone=backbone))
    assert processor.image_mean[0] == mean


def test_a_vit_is_trained_and_loads_alike(category, tmp_path):
    """Its weights, here drawn ones of timm's smallest, come from a file; the checkpoint needs no other."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    options = TrainingOptions(category, tmp_path / "o", tmp_path / "vit.safetensors", steps=2, batch_size=2)
    record = train(options, tiny_config(backbone="test_vit", image_size=60))
    assert record["backbone"] == "test_vit"
    detect = load_detector(tmp_path / "o")
    assert detect.image_processor.image_mean == (0.5, 0.5, 0.5)
    result = detect(str(category / "test/spot/000.png"))
    assert 0 < result["score"] < 1 and np.isfinite(result["score_map"]).all()
    detect.save_pretrained(tmp_path / "again")
    again = load_detector(tmp_path / "again")(str(category / "test/spot/000.png"))
    assert again["image_score"] == result["image_score"]


def test_texture_folder_must_be_there(category, resnet18_weights, tmp_path):
    options = TrainingOptions(category, tmp_path / "o", resnet18_weights, tmp_path / "none", steps=2)
    with pytest.raises(UserError, match="not a folder"):
        train(options, tiny_config())


def test_every_process_draws_other_anomalies():
    draws = []
    for index in (0, 1):
        callback = SeedEveryProcess()
        callback.on_train_begin(SimpleNamespace(seed=3, process_index=index), None, None)
        draws.append(torch.rand(4))
    assert not torch.equal(*draws)


def test_few_images_need_fewer_steps(tmp_path):
    usual = TrainingOptions(tmp_path, tmp_path / "o")
    assert [usual.steps_for(images) for images in (2, 99, 100, 4000)] == [300, 300, 600, 600]
    assert TrainingOptions(tmp_path, tmp_path / "o", steps=7).steps_for(2) == 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"limit": 1}, "limit must be at least 2"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"precision": "fp8"}, "precision"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295, but got 4294967296"),
    ],
)
def test_options_are_checked(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        TrainingOptions(tmp_path, tmp_path / "o", **fields)


VIEWS = ["memory", "place", "remainder", "image", "restored", "perceived"]


@pytest.mark.parametrize(("precision", "half"), [("fp32", False), ("bf16", False), ("fp32", True)])
def test_thresholds_are_those_of_the_checkpoint(category, resnet18_weights, tmp_path, precision, half):
    """Measured anew with what was saved: neither mixed precision nor weights that are rounded later may set them."""
    options = TrainingOptions(
        category, tmp_path / "o", resnet18_weights, steps=4, batch_size=4, precision=precision, half=half, pose="fixed"
    )
    train(options, tiny_config(views=VIEWS))
    model, processor = load_checkpoint(options.output)
    stored = copy.deepcopy(model.config)
    raw = cached_features(sorted((category / "train/good").iterdir()), model.backbone, processor, tmp_path, "again")
    batches = FeatureBatches(raw, list(range(12)), None, model)
    fitting.calibrate_score(model, batches, 12, options.seed)
    for name in ("image_threshold", "pixel_threshold"):
        assert getattr(stored, name) == pytest.approx(getattr(model.config, name), rel=2e-3)
    for name, found in model.config.standards.items():
        assert stored.standards[name] == pytest.approx(found, rel=2e-3, abs=2e-3)


def test_training_and_inference_see_the_same_features(trained):
    """Bit by bit for the same batch: what is measured on good images holds for new ones."""
    options, output, _ = trained
    model, processor = load_checkpoint(output)
    paths = sorted((options.data / "train/good").iterdir())
    raw = cached_features(paths, model.backbone, processor, output.parent / "cache", "again")
    batches = FeatureBatches(raw, list(range(12)), None, model)
    with torch.no_grad():
        pixels = processor(paths, return_tensors="pt")["pixel_values"]
        features = model.uranet.extract(pixels)
        assert torch.equal(batches.features_of(batches.rows), features)
        from_pixels, from_features = model(pixels), model(features=batches.features_of(batches.rows))
    for name in ("image_score", "anomaly_map"):  # sums in the order of other strides
        torch.testing.assert_close(from_pixels[name], from_features[name], rtol=1e-3, atol=1e-4)


def test_what_is_normal_is_that_of_all_images(trained):
    """The saved views are those fitted to every good image, and their features have the mean 0."""
    options, output, _ = trained
    model, processor = load_checkpoint(output)
    paths = sorted((options.data / "train/good").iterdir())
    raw = cached_features(paths, model.backbone, processor, output.parent / "cache", "again", copies_of(output))
    batches = FeatureBatches(raw, list(range(len(raw))), None, model)
    features = batches.features_of(batches.rows)
    torch.testing.assert_close(features.mean((0, 2, 3)), torch.zeros(features.shape[1]), rtol=0, atol=1e-3)
    views = copy.deepcopy(model.uranet.views)
    fitting.fit_views(views, batches.features_of, batches.rows, options.seed)
    assert_same(views.state_dict(), model.uranet.views.state_dict())


def copies_of(folder) -> int:
    return json.loads((folder / "training.json").read_text())["pose"]["turned_copies"]


@pytest.mark.parametrize("count", [3, 20])
def test_files_of_one_picture_are_refused(resnet18_weights, tmp_path, count):
    """Files that differ in a note alone, before anything is written."""
    good, picture = tmp_path / "good", Image.fromarray(draw_part(0)[0])
    good.mkdir()
    for index in range(count):
        note = PngInfo()
        note.add_text("number", str(index))
        picture.save(good / f"{index:02d}.png", pnginfo=note)
    with pytest.raises(UserError, match=f"the {count} good images in .* all show the same"):
        train(TrainingOptions(good, tmp_path / "o", resnet18_weights, steps=4, batch_size=4), tiny_config())
    assert not (tmp_path / "o").exists()


def test_bf16_is_chosen_on_processors_with_amx_alone(monkeypatch):
    """oneDNN takes bf16 on every processor with AVX-512, and takes longer than for float32 where that lacks AMX."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has: has)
        assert use_bf16("auto") == (has and torch.backends.mkldnn.is_available())
    assert use_bf16("bf16") and not use_bf16("fp32")


def test_a_loading_process_gets_the_name_of_the_features_and_not_all_of_them(tmp_path):
    model = URANetForAnomalyDetection(tiny_config())
    np.save(tmp_path / "features.npy", np.random.default_rng(0).random((64, model.backbone.channels, 8, 8), np.float32))
    batches = FeatureBatches(np.load(tmp_path / "features.npy", mmap_mode="r"), [3, 5], None, model)
    sent = pickle.dumps(batches)
    assert len(sent) < 10_000
    assert torch.equal(pickle.loads(sent).features_of([5]), batches.features_of([5]))


def test_every_page_of_a_file_is_a_training_image(resnet18_weights, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    pages = [Image.fromarray(draw_part(seed)[0]) for seed in range(9)]
    pages[0].save(data / "pages.tif", save_all=True, append_images=pages[1:8])
    options = TrainingOptions(data, tmp_path / "o", resnet18_weights, steps=1, precision="fp32")
    record = train(options, tiny_config())
    assert (record["images"]["fitted"], record["files"]) == (8, 1)
    assert all(one["file"].startswith("pages.tif#") for one in record["most_unusual"])
    loose = tmp_path / "loose"
    loose.mkdir()
    for index, page in enumerate(pages[:8]):
        page.save(loose / f"{index}.tif")
    train(TrainingOptions(loose, tmp_path / "loose-o", resnet18_weights, steps=1, precision="fp32"), tiny_config())
    assert_same(weights(tmp_path / "o"), weights(tmp_path / "loose-o"))
    pages[8].save(data / "one.tif")
    chosen = TrainingOptions(data, tmp_path / "every", resnet18_weights, steps=1, frames="every-3")
    record = train(chosen, tiny_config())
    assert (record["good_images"], record["files"], record["options"]["frames"]) == (4, 2, "every-3")


def test_one_file_of_one_image_is_too_little(tmp_path):
    Image.fromarray(draw_part(0)[0]).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="only one image in"):
        train(TrainingOptions(tmp_path, tmp_path / "o", steps=1), tiny_config())
