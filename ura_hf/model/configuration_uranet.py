"""Configuration of URA-Net: every choice of the architecture, its training and its scoring, with checked ranges."""

from __future__ import annotations

import re
from dataclasses import field
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from .defaults import BACKBONE, FALSE_POSITIVE_RATE, GRID_SIZE, IMAGE_SIZE
from .errors import UserError
from .field_checks import are_limits, are_names, are_standards, are_weights
from .loading import CONFIG_FILE, Hooks, what_to_load
from .region import is_region
from .verdicts import is_curve, is_number

SOURCES = ("texture", "self", "noise")
MASK_KINDS = ("large", "small", "thin", "subtle", "empty")
MAP_VIEWS = ("memory", "place", "remainder", "restored", "perceived")
VIEWS = (*MAP_VIEWS, "image")
LEARNT = ("restored", "perceived")
"""Views that ask networks."""
DEFAULT_VIEWS = ("memory", "place", "remainder", "image")
PEAKS = {"peak_content": ("memory", "remainder", "restored", "perceived"), "peak_place": ("place",)}
"""The largest values that the image score adds up, and the maps whose sum they are of."""

SOURCE_WEIGHTS = {"texture": 1.0, "self": 1.0, "noise": 0.5}
MASK_WEIGHTS = {"large": 2.0, "small": 0.5, "thin": 0.5, "subtle": 0.3, "empty": 0.2}
OUTDATED = ("residuals", "reliabilities", "subspace_rank", "spread_ratio")
"""Fields of checkpoints of version 0.1, whose score no longer exists."""
BEFORE_PICTURES = {"cell_pixels": 0}
"""What the config of a checkpoint without a decoder of pictures does not say."""
MAX_ATTENTION = 3 * 2**26  # pairs of tokens in all heads together: scores of 0.75 GiB, and twice that on the way
MAX_LABELS = 1000
BACKBONE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,96}")  # no `hf-hub:`, which would make timm fetch another repository

WHOLE_NUMBERS = {
    "image_size": (32, 2048),
    "grid_size": (2, 256),
    "patch_size": (1, 32),
    "hidden_size": (8, 4096),
    "num_hidden_layers": (1, 64),
    "num_attention_heads": (1, 64),
    "memory_tokens": (0, 65536),
    "memory_cells": (1, 1048576),
    "components": (1, 4096),
    "place_components": (1, 4096),
    "image_rank": (1, 1000),
    "perception_size": (1, 4096),
    "cell_pixels": (0, 32),
}
NUMBERS = {
    "mlp_ratio": (0.25, 16.0),
    "bottleneck_dropout": (0.0, 0.95),
    "prior_std": (1e-4, 100.0),
    "uncertainty_weight": (0.0, 100.0),
    "max_blend": (0.0, 0.99),
    "smoothing_sigma": (0.0, 64.0),
    "cosine_weight": (0.0, 1e4),
    "perception_weight": (0.0, 1e4),
    "hard_normal_power": (0.0, 8.0),
    "false_positive_rate": (1e-6, 0.999),
    "max_review": (0.0, 0.9),
}
SWITCHES = ("bayesian_perception", "weigh_keys", "take_out_queries")
MEASURED = ("image_threshold", "pixel_threshold")
WEIGHTS = {"source_weights": SOURCES, "mask_weights": MASK_KINDS}


class URANetConfig(PreTrainedConfig):
    """Configuration of the URA-Net models.

    Sizes are counts unless said otherwise. The paper (arXiv 2603.22840) publishes no numbers for most of these fields;
    `docs/method.md` says which choices are the paper's and which are ours.

    Args:
        backbone: Name of a timm network that supports ``features_only``, CNN or ViT.
        out_indices: timm feature levels that are concatenated; at least one. A ViT has the levels 0 to 3, the ends of the four
            quarters of its blocks.
        image_size: Side S of the square network input, pixels; 32 to 2048.
        grid_size: Side G of the feature grid; divisible by `patch_size`.
        patch_size: Side k of a token, in grid cells.
        hidden_size: Token width d; divisible by `num_attention_heads`.
        num_hidden_layers: Restoration blocks, at least 1.
        num_attention_heads: Heads of restoration attention.
        mlp_ratio: Width of a block's feed-forward layer over `hidden_size`.
        bottleneck_dropout: Dropout on the embedded tokens during training, in [0, 1).
        memory_tokens: Normal tokens of the training set that every restoration attends to (0: only the image's own).
        components: Principal components K of a cell that memory, places, perception and restoration see; at most the channels.
        memory_cells: Good cells that every cell is compared with.
        place_components: Leading components whose Gaussian is kept for every place.
        image_rank: Most directions in which good images may differ as a whole.
        perception_size: Hidden channels of the Bayesian perception.
        cell_pixels: Side of the square of pixels that a cell becomes in the restored picture, at most as in the input; 0: no
            decoder of pictures.
        bayesian_perception: Whether the perception's last layer has a posterior over its weights; without, no epistemic
            uncertainty.
        prior_std: Standard deviation of the Gaussian prior of these weights, > 0.
        uncertainty_weight: w in the suspicion m = clip(p + w u, 0, 1), >= 0.
        weigh_keys: Whether attention weighs keys by their normality, log(1 - m + eps).
        take_out_queries: Whether suspicious content is taken out of the queries, (1 - m) t + m t_mask. With neither and no
            `memory_tokens`, what is left of attention is plain reconstruction.
        source_weights: Relative weights of the anomaly sources ``texture``, ``self`` and ``noise``.
        mask_weights: Relative weights of the mask families ``large``, ``small``, ``thin``, ``subtle`` and ``empty``.
        max_blend: Upper end of b ~ U(0, max_blend) in F~ = (1-M) F + M (b F + (1-b) A), in [0, 1).
        views: What map and score add up: ``memory``, ``place``, ``remainder`` and ``image`` (`model.views`), ``restored``
            (features against restored ones), ``perceived`` (odds of the perception); at least one that is a map.
        score_views: Maps that the image score adds to these, and the anomaly map does not, such as ``perceived``.
        standards: Location and spread of the log of each view and of ``memory``, and of the largest values in `PEAKS`, over good
            images that views, not networks, have not seen; None before calibration.
        roi: Cells of the feature grid that count, as `model.region.to_text` writes them; None: all. `uranet train --roi` sets it.
        smoothing_sigma: Standard deviation of the map's Gaussian filter, pixels of the network input, >= 0.
        cosine_weight: lambda_c of the restoration loss.
        perception_weight: lambda_p of the restoration loss.
        hard_normal_power: Focus of the restoration loss on badly restored normal cells; 0 weighs all cells alike.
        image_threshold: Raw image score at which the verdict flips; None before calibration.
        pixel_threshold: Raw map value at which a pixel counts as anomalous; None before calibration.
        false_positive_rate: Rate on unseen good images that the thresholds were calibrated for, in (0, 1).
        max_review: Share of good images, beside these, whose verdict may be ``review``, in [0, 0.9].
        false_alarms: Pairs of a share of good images and the raw image score that it exceeds (`model.verdicts`); None before
            calibration.
        strangeness: What the least strange tenth of an image's cells has in `memory`, for a good image and for one at the limit
            beyond which it is not the part; None before calibration, or where nothing else was there to compare with.

    Raises:
        UserError: A field is out of its range; the message names the field, the range and the value.
    """

    model_type = "uranet"

    backbone: str = BACKBONE
    out_indices: list[int] = field(default_factory=lambda: [1, 2, 3])
    image_size: int = IMAGE_SIZE
    grid_size: int = GRID_SIZE
    patch_size: int = 2
    hidden_size: int = 192
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    mlp_ratio: float = 2.0
    bottleneck_dropout: float = 0.1
    memory_tokens: int = 128
    components: int = 128
    memory_cells: int = 2048
    place_components: int = 48
    image_rank: int = 128
    perception_size: int = 128
    cell_pixels: int = 8
    bayesian_perception: bool = True
    prior_std: float = 1.0
    uncertainty_weight: float = 0.5
    weigh_keys: bool = True
    take_out_queries: bool = True
    source_weights: dict[str, float] = field(default_factory=lambda: dict(SOURCE_WEIGHTS))
    mask_weights: dict[str, float] = field(default_factory=lambda: dict(MASK_WEIGHTS))
    max_blend: float = 0.8
    views: list[str] = field(default_factory=lambda: list(DEFAULT_VIEWS))
    score_views: list[str] = field(default_factory=list)
    standards: dict[str, list[float]] | None = None
    roi: str | None = None
    smoothing_sigma: float = 4.0
    cosine_weight: float = 1.0
    perception_weight: float = 1.0
    hard_normal_power: float = 0.0
    image_threshold: float | None = None
    pixel_threshold: float | None = None
    false_positive_rate: float = FALSE_POSITIVE_RATE
    max_review: float = 0.1
    false_alarms: list[list[float]] | None = None
    strangeness: list[float] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if old := [name for name in OUTDATED if name in kwargs]:
            raise UserError(
                f"the config is of version 0.1 of ura_hf (it has {', '.join(old)}), whose score this version does not compute: "
                "train the checkpoint again with `uranet train`, or install ura_hf 0.1."
            )
        for name in ("out_indices", "views", "score_views"):
            if isinstance(getattr(self, name), tuple):
                setattr(self, name, list(getattr(self, name)))
        defaults = {"source_weights": SOURCE_WEIGHTS, "mask_weights": MASK_WEIGHTS}
        for name, default in defaults.items():
            if getattr(self, name) is None:
                setattr(self, name, dict(default))
        self._check()
        if Hooks.find is not None:  # the package has the pipeline itself
            kwargs.pop("custom_pipelines", None)
        try:
            if (kwargs.get("num_labels") or 0) not in range(MAX_LABELS + 1):  # transformers makes as many names
                raise TypeError(f"num_labels must be a whole number from 0 to {MAX_LABELS}")
            super().__post_init__(**kwargs)
        except (AttributeError, TypeError) as error:
            raise UserError(f"a field that every model of transformers has is wrong ({error}): correct it.") from error

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> URANetConfig:  # type: ignore[override]
        """As in transformers, by folder or name; of a repository on the Hub only this file is fetched."""
        return super().from_pretrained(what_to_load(pretrained_model_name_or_path, (CONFIG_FILE,), kwargs), **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; values that are given for our fields are checked, too."""
        own = {name: kwargs.pop(name) for name in cls.own_fields() if name in kwargs}
        return super().from_dict({**BEFORE_PICTURES, **config_dict, **own}, **kwargs)

    @classmethod
    def own_fields(cls) -> list[str]:
        """Names of the fields that are not every model's."""
        return [name for name in URANetConfig.__annotations__ if name != "model_type"]

    def to_diff_dict(self) -> dict[str, Any]:
        """As in transformers, and every field of ours: a checkpoint must not change when a later version has other defaults."""
        return {**super().to_diff_dict(), **{name: getattr(self, name) for name in self.own_fields()}}

    @property
    def all_views(self) -> list[str]:
        """What the image score adds up: `views`, and those of `score_views` that are not among them."""
        return [*self.views, *(name for name in self.score_views if name not in self.views)]

    @property
    def is_calibrated(self) -> bool:
        """Whether both thresholds were measured on good images."""
        return None not in (self.image_threshold, self.pixel_threshold)

    def _check(self) -> None:
        self._check_ranges()
        self._check_weights()
        self._check_architecture()
        self._check_views()

    def _require(self, ok: bool, field: str, rule: str) -> None:
        if not ok:
            raise UserError(f"{field} must be {rule}, but got {getattr(self, field)!r}: correct it in the config.")

    def _check_ranges(self) -> None:
        for name, (low, high) in WHOLE_NUMBERS.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            self._require(whole and low <= value <= high, name, f"a whole number from {low} to {high}")
        for name, (least, most) in NUMBERS.items():
            value = getattr(self, name)
            self._require(is_number(value) and least <= value <= most, name, f"a number from {least} to {most}")
        for name in SWITCHES:
            self._require(isinstance(getattr(self, name), bool), name, "True or False")
        for name in MEASURED:
            value = getattr(self, name)
            known = value is None or (is_number(value) and value > 0)
            self._require(known, name, "a positive, finite number or None")

    def _check_weights(self) -> None:
        for name, names in WEIGHTS.items():
            weights = getattr(self, name)
            self._require(are_weights(weights, names, 0), name, f"finite weights >= 0 for some of {names}")
            self._require(sum(weights.values()) > 0, name, "weights with a positive sum")

    def _check_architecture(self) -> None:
        name_fits = isinstance(self.backbone, str) and bool(BACKBONE_NAME.fullmatch(self.backbone))
        self._require(name_fits, "backbone", "the name of a timm network")
        indices = self.out_indices
        known = isinstance(indices, list) and bool(indices) and all(isinstance(i, int) and 0 <= i < 8 for i in indices)
        self._require(known, "out_indices", "levels 0-7")
        self._require(sorted(set(indices)) == indices, "out_indices", "increasing levels without repetition")
        self._require(self.grid_size % self.patch_size == 0, "patch_size", f"a divisor of grid_size ({self.grid_size})")
        self._require(
            self.hidden_size % self.num_attention_heads == 0, "num_attention_heads", "a divisor of hidden_size"
        )
        tokens = (self.grid_size // self.patch_size) ** 2
        pairs = self.num_attention_heads * tokens * (tokens + self.memory_tokens)
        rule = f"such that attention compares at most {MAX_ATTENTION} pairs of tokens"
        self._require(pairs <= MAX_ATTENTION, "grid_size", rule)
        self._require(self.grid_size <= self.image_size, "grid_size", f"at most image_size ({self.image_size})")

    def _check_views(self) -> None:
        has_map = are_names(self.views, VIEWS) and bool({*self.views} & {*MAP_VIEWS})
        self._require(has_map, "views", f"some of {VIEWS}, one of {MAP_VIEWS} among them")
        self._require(are_names(self.score_views, MAP_VIEWS), "score_views", f"some of {MAP_VIEWS}, or none")
        optional = (
            ("standards", lambda pairs: are_standards(pairs, {*VIEWS, *PEAKS}), "two numbers a view"),
            ("false_alarms", is_curve, "pairs of falling rates and rising raw scores"),
            ("strangeness", are_limits, "two rising numbers"),
            ("roi", lambda text: is_region(text, self.grid_size), f"a bit a cell of a {self.grid_size}-grid"),
        )
        for name, fits, rule in optional:
            value = getattr(self, name)
            self._require(value is None or fits(value), name, f"{rule}, or None")
