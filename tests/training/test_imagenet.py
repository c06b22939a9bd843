"""Pretrained weights of a backbone, and what becomes of wrong files and of no network."""

from __future__ import annotations

import errno
import os

import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file
from torch.nn import functional

from ura_hf import UserError
from ura_hf.model.backbone import Backbone
from ura_hf.training.imagenet import load_imagenet


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone("test_resnet", (1, 2, 3), grid_size=8)


def saved(backbone: Backbone, path, change=lambda tensors: tensors):
    tensors = {key: value.clone() for key, value in backbone.cnn.state_dict().items()}
    save_file(change(tensors), path)
    return path


def test_weights_from_a_file(backbone, tmp_path):
    """Whatever the file holds comes in, BatchNorm statistics too; classifier tensors in it are left aside."""

    def change(tensors):
        shifted = {key: value + 0.5 if value.is_floating_point() else value for key, value in tensors.items()}
        return shifted | {"fc.weight": torch.zeros(10, 192)}

    path = saved(backbone, tmp_path / "weights.safetensors", change)
    other = Backbone("test_resnet", (1, 2, 3), grid_size=8)
    load_imagenet(other, path)
    stored = load_file(path)
    for key, value in other.cnn.state_dict().items():
        assert torch.equal(value, stored[key]), key
    assert not any(parameter.requires_grad for parameter in other.parameters())


def test_constants_that_timm_leaves_out_of_files_are_kept(tmp_path):
    """Blur filters: not in weights for timm, in a checkpoint of ours, where transformers would not restore them."""
    backbone, other = (Backbone("resnetblur18", (1, 2, 3), grid_size=8) for _ in range(2))
    assert any(name.endswith("aa.filt") for name in backbone.constants) and backbone.constants < set(
        backbone.cnn.state_dict()
    )

    def change(tensors):
        return {key: value for key, value in tensors.items() if key not in backbone.constants}

    load_imagenet(other, saved(backbone, tmp_path / "weights.safetensors", change))
    for key, value in other.cnn.state_dict().items():
        assert torch.equal(value, backbone.cnn.state_dict()[key]), key


def test_weights_of_a_vit_are_fitted_to_the_images(tmp_path):
    """timm's file is of another size of images: positions are fitted as timm does it, all else comes in as it is."""
    torch.manual_seed(0)
    path, whole = tmp_path / "weights.safetensors", timm.create_model("test_vit")
    save_file(whole.state_dict(), path)
    backbone = Backbone("test_vit", (0, 1), grid_size=4, image_size=64)
    load_imagenet(backbone, path)
    found, wanted = backbone.cnn.model.state_dict(), whole.state_dict()
    assert [key for key in found if not torch.equal(found[key], wanted[key])] == ["pos_embed"]
    theirs = timm.create_model("test_vit", pretrained=True, img_size=64, pretrained_cfg_overlay={"file": str(path)})
    torch.testing.assert_close(found["pos_embed"], theirs.pos_embed.detach())


def test_weights_of_another_vit(tmp_path):
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        UserError, match=r"does not fit the backbone: 0 of its .* have another shape .* --image-size 224"
    ):
        load_imagenet(Backbone("vit_tiny_patch16_224", (1,), 4, 64), tmp_path / "w.safetensors")


def test_weights_that_timm_can_not_fit_to_the_images(tmp_path, monkeypatch):
    """A mixer has one size only, whether its weights come from a file or through timm."""
    name, path, make = "mixer_s32_224", tmp_path / "w.safetensors", timm.create_model
    save_file(make(name).state_dict(), path)
    mixer = Backbone(name, (0,), 4, image_size=64)
    with pytest.raises(UserError, match=r"have another shape .* --image-size 224"):
        load_imagenet(mixer, path)
    monkeypatch.setattr("ura_hf.training.imagenet._repository", lambda name: "timm/mixer")
    monkeypatch.setattr("ura_hf.training.imagenet.weights_reachable", lambda name: True)
    overlay = {"pretrained_cfg_overlay": {"file": str(path)}}
    monkeypatch.setattr("ura_hf.training.imagenet.timm.create_model", lambda *a, **k: make(*a, **k, **overlay))
    with pytest.raises(UserError, match=r"of mixer_s32_224 do not fit images of 64 pixels .* --image-size 224"):
        load_imagenet(mixer)


def test_batch_counters_may_be_absent(backbone, tmp_path):
    def change(tensors):
        return {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}

    load_imagenet(backbone, saved(backbone, tmp_path / "weights.safetensors", change))


def test_missing_file(backbone, tmp_path):
    with pytest.raises(UserError, match=r"absent\.safetensors does not exist"):
        load_imagenet(backbone, tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match="is a folder: check the path"):
        load_imagenet(backbone, tmp_path)


def test_unreadable_file(backbone, tmp_path):
    path = saved(backbone, tmp_path / "weights.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_imagenet(backbone, path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_imagenet(backbone, path)


def test_file_without_a_tensor(backbone, tmp_path):
    def change(tensors):
        del tensors["layer1.0.bn1.running_var"]
        return tensors

    before = backbone.cnn.conv1[0].weight.clone()
    with pytest.raises(UserError, match=r"layer1\.0\.bn1\.running_var"):
        load_imagenet(backbone, saved(backbone, tmp_path / "weights.safetensors", change))
    assert torch.equal(backbone.cnn.conv1[0].weight, before)


def test_file_with_another_shape(backbone, tmp_path):
    def change(tensors):
        return tensors | {"layer2.0.conv1.weight": torch.zeros(48, 31, 3, 3)}

    with pytest.raises(UserError, match=r"1 have another shape \(first: layer2\.0\.conv1\.weight"):
        load_imagenet(backbone, saved(backbone, tmp_path / "weights.safetensors", change))


def test_no_network(backbone, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("ura_hf.training.imagenet.timm.create_model", refuse)
    with pytest.raises(UserError, match=r"test_resnet.*could not be fetched.*--backbone-weights"):
        load_imagenet(backbone)


def test_real_resnet18(shared_dir):
    """The real weights come in whole, and the features tell a bottle from the noise of the same colours."""
    path = shared_dir / "backbones" / "resnet18_in1k_stages1-3.safetensors"
    backbone = Backbone("resnet18", (1, 2, 3), grid_size=16)
    load_imagenet(backbone, path)
    stored = load_file(path)
    state = backbone.cnn.state_dict()
    assert torch.equal(state["conv1.weight"], stored["conv1.weight"])
    assert torch.equal(state["layer3.1.bn2.running_var"], stored["layer3.1.bn2.running_var"])
    assert backbone.level_channels == [64, 128, 256]
    image = torch.nn.functional.interpolate(torch.randn(1, 3, 8, 8), (128, 128), mode="bilinear")
    smooth, shuffled = backbone.raw(image), backbone.raw(image.flatten(2)[..., torch.randperm(128**2)].view_as(image))
    assert smooth.isfinite().all()
    assert functional.cosine_similarity(smooth.flatten(1), shuffled.flatten(1)).item() < 0.9


def test_weights_of_another_architecture(shared_dir):
    backbone = Backbone("resnet18", (1, 2, 3), grid_size=8)
    with pytest.raises(UserError, match="does not fit the backbone"):
        load_imagenet(backbone, shared_dir / "backbones" / "mobilenetv2_100_in1k_features.safetensors")
    with pytest.raises(UserError, match="does not fit the backbone"):
        load_imagenet(Backbone("resnet34", (1, 2, 3), 8), shared_dir / "backbones/resnet18_in1k_stages1-3.safetensors")


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "Permission denied")]
)
def test_weights_that_can_not_be_stored(backbone, monkeypatch, number, reason):
    """The network is not to blame."""

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("ura_hf.training.imagenet.weights_reachable", lambda name: True)
    monkeypatch.setattr("ura_hf.training.imagenet.timm.create_model", refuse)
    with pytest.raises(UserError, match=rf"test_resnet could not be stored in .* \({reason}\)") as caught:
        load_imagenet(backbone)
    assert "network" not in str(caught.value)


def test_a_backbone_of_which_timm_has_no_weights(monkeypatch):
    """The network is not to blame, and is not asked."""
    unknown = Backbone("resnet50t", (1, 2), grid_size=8)
    monkeypatch.setattr("ura_hf.training.imagenet.timm.create_model", lambda *args, **kwargs: pytest.fail("asked"))
    with pytest.raises(UserError, match=r"timm has no weights of resnet50t .*--backbone-weights") as caught:
        load_imagenet(unknown)
    assert "network" not in str(caught.value)


def test_the_hub_is_not_asked_when_offline(backbone, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("ura_hf.training.imagenet.timm.create_model", lambda *args, **kwargs: pytest.fail("asked"))
    with pytest.raises(UserError, match=r"test_resnet are not in the Hub client's cache, and HF_HUB_OFFLINE=1 forbids"):
        load_imagenet(backbone)


def test_offline_is_named_where_the_cache_holds_other_files(backbone, monkeypatch):
    """Then it is the Hub's client that refuses, and not the network that fails."""

    def refuse(*args, **kwargs):
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("ura_hf.training.imagenet.weights_reachable", lambda name: True)
    monkeypatch.setattr("ura_hf.training.imagenet.timm.create_model", refuse)
    with pytest.raises(
        UserError, match=r"test_resnet .*: unset HF_HUB_OFFLINE, which forbids it, or pass a file"
    ) as caught:
        load_imagenet(backbone)
    assert "network" not in str(caught.value)
