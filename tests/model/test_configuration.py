"""The configuration: its ranges, its defaults and its round trip over a file."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import pytest
from transformers import AutoConfig

from ura_hf import URANetConfig, URANetForAnomalyDetection, UserError
from ura_hf.data.files import ASSETS
from ura_hf.hub.names import bundled
from ura_hf.model.configuration_uranet import MAP_VIEWS


def test_defaults_are_the_documented_ones():
    config = URANetConfig()
    assert config.model_type == "uranet"
    assert (config.backbone, config.out_indices, config.image_size) == ("resnet18.tv_in1k", [1, 2, 3], 256)
    assert config.image_threshold is None and config.pixel_threshold is None and not config.is_calibrated


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("out_indices", []),
        ("out_indices", [-1, 2]),
        ("out_indices", [1, 8]),
        ("out_indices", [1.0, 2]),
        ("out_indices", [2, 1]),
        ("out_indices", [1, 1, 2]),
        ("image_size", 31),
        ("image_size", 2049),
        ("image_size", 256.0),
        ("image_size", "256"),
        ("image_size", True),
        ("grid_size", 1),
        ("grid_size", 257),
        ("grid_size", None),
        ("patch_size", 0),
        ("patch_size", 3),
        ("patch_size", 64),
        ("hidden_size", 4),
        ("hidden_size", -8),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 65),
        ("num_attention_heads", 0),
        ("num_attention_heads", 7),
        ("mlp_ratio", 0),
        ("mlp_ratio", 17),
        ("bottleneck_dropout", 1.0),
        ("bottleneck_dropout", -0.1),
        ("memory_tokens", -1),
        ("memory_tokens", 0.5),
        ("memory_cells", -1),
        ("memory_cells", 0),
        ("components", 0),
        ("components", 4097),
        ("place_components", 0),
        ("place_components", 8.0),
        ("image_rank", 0),
        ("image_rank", 1001),
        ("perception_size", 0),
        ("bayesian_perception", 1),
        ("weigh_keys", "yes"),
        ("take_out_queries", None),
        ("prior_std", 0),
        ("prior_std", math.nan),
        ("prior_std", math.inf),
        ("uncertainty_weight", -0.5),
        ("uncertainty_weight", "0.5"),
        ("source_weights", {"web": 1.0}),
        ("source_weights", {"self": -1.0}),
        ("source_weights", {"self": 0.0, "noise": 0.0}),
        ("source_weights", {"self": math.nan}),
        ("source_weights", ["self"]),
        ("mask_weights", {"huge": 1.0}),
        ("mask_weights", {"large": -0.1, "small": 1.0}),
        ("mask_weights", {"large": 0}),
        ("max_blend", 1.0),
        ("max_blend", -0.1),
        ("views", []),
        ("views", "memory"),
        ("views", ["memory", "sum"]),
        ("views", ["memory", "memory"]),
        ("views", ["image"]),
        ("views", [["memory"]]),
        ("views", {"memory": 1.0}),
        ("views", None),
        ("standards", {"sum": [0.0, 1.0]}),
        ("standards", {"memory": [0.0, 0.0]}),
        ("standards", {"memory": [0.0, -1.0]}),
        ("standards", {"memory": [math.nan, 1.0]}),
        ("standards", {"memory": [0.0, math.inf]}),
        ("standards", {"memory": [0.0]}),
        ("standards", {"memory": 1.0}),
        ("standards", [0.0, 1.0]),
        ("score_views", ["image"]),
        ("score_views", ["memory", "memory"]),
        ("score_views", "memory"),
        ("smoothing_sigma", -1),
        ("smoothing_sigma", 65),
        ("cosine_weight", -1),
        ("perception_weight", -1),
        ("perception_weight", None),
        ("hard_normal_power", -1),
        ("hard_normal_power", 9),
        ("false_positive_rate", 0),
        ("false_positive_rate", 1),
    ],
)
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(UserError, match=rf"^{field} must be ") as caught:
        URANetConfig(**{field: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"out_indices": (0,)},
        {"image_size": 32, "grid_size": 32},
        {"image_size": 2048},
        {"grid_size": 2, "patch_size": 2},
        {"hidden_size": 8, "num_attention_heads": 8},
        {"memory_tokens": 0},
        {"memory_cells": 1, "components": 1, "place_components": 1, "image_rank": 1},
        {"components": 4096, "place_components": 4096, "image_rank": 1000},
        *({"views": [view]} for view in MAP_VIEWS),
        {"views": ("image", "place")},
        {"score_views": ()},
        {"score_views": ("memory", "restored")},
        {"standards": {}},
        {"prior_std": 1e-4},
        {"bottleneck_dropout": 0, "smoothing_sigma": 0, "max_blend": 0, "uncertainty_weight": 0},
        {"bayesian_perception": False, "weigh_keys": False, "take_out_queries": False},
        {"source_weights": {"noise": 1}},
        {"mask_weights": {"empty": 1}},
        {"cosine_weight": 0, "perception_weight": 0, "hard_normal_power": 0},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(fields):
    config = URANetConfig(**fields)
    for field, value in fields.items():
        assert getattr(config, field) == (list(value) if isinstance(value, tuple) else value)


def test_attention_fits_the_memory():
    with pytest.raises(UserError, match="grid_size must be such that attention compares at most 201326592 pairs"):
        URANetConfig(grid_size=128, patch_size=1, num_attention_heads=1, memory_tokens=0)
    URANetConfig(grid_size=64, patch_size=1, num_attention_heads=8)


def test_grid_must_fit_the_image():
    with pytest.raises(UserError, match="grid_size must be at most image_size"):
        URANetConfig(image_size=32, grid_size=64)


@pytest.mark.parametrize(
    ("image", "pixel", "expected"), [(None, None, False), (1.0, None, False), (None, 1.0, False), (1.0, 2.0, True)]
)
def test_calibrated_needs_both_thresholds(image, pixel, expected):
    assert URANetConfig(image_threshold=image, pixel_threshold=pixel).is_calibrated is expected


def test_round_trip_keeps_every_field(tmp_path):
    changed = {
        "backbone": "test_resnet",
        "out_indices": [0, 2],
        "image_size": 96,
        "grid_size": 12,
        "patch_size": 3,
        "hidden_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "mlp_ratio": 1.5,
        "bottleneck_dropout": 0.2,
        "memory_tokens": 7,
        "memory_cells": 11,
        "perception_size": 9,
        "prior_std": 0.3,
        "uncertainty_weight": 0.7,
        "source_weights": {"self": 2.0, "noise": 0.25},
        "mask_weights": {"thin": 1.0, "empty": 0.5},
        "max_blend": 0.6,
        "components": 13,
        "place_components": 5,
        "image_rank": 6,
        "views": ["restored", "image"],
        "score_views": ["memory"],
        "standards": {"restored": [-2.5, 0.1 + 0.2], "image": [1, 2.0], "peak_content": [7.0, 1.5]},
        "smoothing_sigma": 2.5,
        "cosine_weight": 0.5,
        "perception_weight": 2.0,
        "hard_normal_power": 2.0,
        "image_threshold": 0.1 + 0.2,  # not representable in fewer digits
        "pixel_threshold": 1e-9,
        "false_positive_rate": 0.01,
    }
    URANetConfig(**changed).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["model_type"] == "uranet"
    for loaded in (URANetConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded, URANetConfig)
        assert {field: getattr(loaded, field) for field in changed} == changed
    assert loaded.is_calibrated


def test_views_of_the_score_alone_come_after_the_others():
    assert URANetConfig().all_views == URANetConfig().views
    assert URANetConfig(views=["memory"], score_views=["perceived"]).all_views == ["memory", "perceived"]
    assert URANetConfig(views=["memory", "perceived"], score_views=["perceived"]).all_views == ["memory", "perceived"]


def test_every_field_is_one_of_the_dataclass_and_comes_back(tmp_path):
    ours = URANetConfig.own_fields()
    assert set(ours) <= {field.name for field in dataclasses.fields(URANetConfig)} and "model_type" not in ours
    config = URANetConfig()
    config.save_pretrained(tmp_path)
    loaded = URANetConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict().items() >= {name: getattr(config, name) for name in ours}.items()
    for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), URANetConfig.from_dict(config.to_dict())):
        assert {name: getattr(other, name) for name in ours} == {name: getattr(config, name) for name in ours}


def test_unknown_fields_are_those_of_transformers(tmp_path):
    """Kept as attributes and in the file, as everywhere in transformers; what a call adds and nobody knows is handed back."""
    URANetConfig(note="mine", num_labels=3).save_pretrained(tmp_path)
    config, unused = URANetConfig.from_pretrained(tmp_path, image_size=96, nothing=3, return_unused_kwargs=True)
    assert (config.note, config.num_labels, config.image_size, unused) == ("mine", 3, 96, {"nothing": 3})
    assert json.loads((tmp_path / "config.json").read_text())["note"] == "mine"
    with pytest.raises(UserError, match="image_size must be a whole number from 32 to 2048, but got 5"):
        URANetConfig.from_pretrained(tmp_path, image_size=5)
    with pytest.raises((TypeError, ValueError), match=r"positional|keyword"):
        URANetConfig("resnet18")


@pytest.mark.parametrize(
    "fields",
    [
        {"transformers_version": "5.0.0", "architectures": ["URANetForAnomalyDetection"], "dtype": "float16"},
        {"torch_dtype": "float16", "source_weights": None, "mask_weights": None},
        {
            "auto_map": {"AutoConfig": "configuration_uranet.URANetConfig"},
            "custom_pipelines": {"a-task": {"impl": "x.Y"}},
        },
        {"out_indices": [1, 2, 3], "a_field_that_is_gone": 1.5},
    ],
)
def test_files_of_other_versions_load(tmp_path, fields):
    """With fields that are gone, with None for a default, and without fields that are new."""
    stored = {"model_type": "uranet", "backbone": "uranet-small", "image_size": 128, **fields}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    for config in (URANetConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(config) is URANetConfig
        assert (config.backbone, config.image_size, config.views) == ("uranet-small", 128, URANetConfig().views)
        assert not hasattr(config, "custom_pipelines")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("residuals", {"memory_l2": 1.0}),
        ("residuals", None),
        ("reliabilities", None),
        ("subspace_rank", 64),
        ("spread_ratio", None),
    ],
)
def test_files_of_version_0_1_are_refused(tmp_path, field, value):
    """Their scores and thresholds mean something else; the message says whose they are and what to do."""
    stored = {"model_type": "uranet", "image_size": 128, "image_score": "max", field: value}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    (tmp_path / "model.safetensors").touch()
    for load in (URANetConfig.from_pretrained, AutoConfig.from_pretrained, URANetForAnomalyDetection.from_pretrained):
        with pytest.raises(UserError, match=rf"version 0\.1 of ura_hf .*{field}.*`uranet train`.*ura_hf 0\.1"):
            load(tmp_path)


@pytest.mark.parametrize("name", bundled())
def test_bundled_configs_load_unchanged(name):
    stored = json.loads((ASSETS / name / "config.json").read_text())
    config = URANetConfig.from_pretrained(name)
    assert {field: getattr(config, field) for field in URANetConfig.own_fields() if field in stored} == {
        field: stored[field] for field in URANetConfig.own_fields() if field in stored
    }


@pytest.mark.parametrize(
    "fields", [{"dtype": "floatx"}, {"num_labels": "x"}, {"num_labels": 10**9}, {"num_labels": -1}]
)
def test_a_wrong_field_of_transformers_is_a_wrong_input(fields):
    with pytest.raises(UserError, match="every model of transformers"):
        URANetConfig(**fields)


def test_a_file_with_a_wrong_value_is_named(tmp_path):
    URANetConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"grid_size": 0}))
    with pytest.raises(UserError, match="grid_size"):
        URANetConfig.from_pretrained(tmp_path)


def test_instances_share_no_weights():
    first = URANetConfig()
    first.source_weights["texture"] = 99.0
    first.mask_weights["large"] = 99.0
    first.out_indices.append(4)
    first.views.append("restored")
    second = URANetConfig()
    assert second.source_weights["texture"] != 99.0 and second.mask_weights["large"] != 99.0
    assert second.out_indices == [1, 2, 3] and "restored" not in second.views


@pytest.mark.parametrize("field", ["image_threshold", "pixel_threshold"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "0.5"])
def test_thresholds_are_positive_numbers(field, value):
    """The fixed scale raw / (raw + threshold) has no meaning for another threshold."""
    with pytest.raises(UserError, match=field):
        URANetConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("out_indices", 3),
        ("source_weights", {"self": "much"}),
        ("backbone", 18),
        ("source_weights", {"self": math.inf}),
    ],
)
def test_a_value_of_another_type_is_named(field, value):
    with pytest.raises(UserError, match=field):
        URANetConfig(**{field: value})


def test_defaults_are_written_down(tmp_path):
    """A later version with other defaults must not change how an older checkpoint scores; and no local path is kept."""
    URANetConfig().save_pretrained(tmp_path)
    found = json.loads((tmp_path / "config.json").read_text())
    assert found["views"] == ["memory", "place", "remainder", "image"] and found["standards"] is None
    assert (found["components"], found["memory_cells"]) == (128, 2048) and "_name_or_path" not in found
