"""Configuration of URA-Net: every choice of the architecture, its training and its scoring, with checked ranges."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from .defaults import BACKBONE, FALSE_POSITIVE_RATE, GRID_SIZE, IMAGE_SIZE
from .errors import UserError
from .loading import CONFIG_FILE, Hooks, what_to_load

SOURCES = ("texture", "self", "noise")
MASK_KINDS = ("large", "small", "thin", "subtle", "empty")
SCORE_RULES = ("max", "std", "topk")
MEMORY_RESIDUALS = ("memory_l2", "memory_all_l2", "memory_shallow_l2")
RESIDUALS = ("restored_l2", "restored_direction", *MEMORY_RESIDUALS, "subspace_l2", "probability")

SOURCE_WEIGHTS = {"texture": 1.0, "self": 1.0, "noise": 0.5}
MASK_WEIGHTS = {"large": 2.0, "small": 0.5, "thin": 0.5, "subtle": 0.3, "empty": 0.2}
RESIDUAL_WEIGHTS = {
    "memory_all_l2": 1.0,
    "memory_shallow_l2": 2.0,
    "subspace_l2": 1.0,
    "restored_direction": 1.0,
    "probability": 1.0,
}

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
    "memory_cells": (0, 1048576),
    "subspace_rank": (0, 1000),
    "perception_size": (1, 4096),
    "num_samples": (1, 1024),
    "sample_seed": (0, 2**63 - 1),
}
NUMBERS = {
    "std_floor": (0.0, 1.0),
    "mlp_ratio": (0.25, 16.0),
    "bottleneck_dropout": (0.0, 0.95),
    "prior_std": (1e-4, 100.0),
    "uncertainty_weight": (0.0, 100.0),
    "max_blend": (0.0, 0.99),
    "smoothing_sigma": (0.0, 64.0),
    "topk_fraction": (1e-6, 1.0),
    "subspace_share": (0.0, 1.0),
    "cosine_weight": (0.0, 1e4),
    "perception_weight": (0.0, 1e4),
    "hard_normal_power": (0.0, 8.0),
    "false_positive_rate": (1e-6, 0.999),
}
SWITCHES = ("bayesian_perception", "weigh_keys", "take_out_queries", "adapt_residuals")
MEASURED = ("image_threshold", "pixel_threshold", "spread_ratio")
WEIGHTS = {"source_weights": SOURCES, "mask_weights": MASK_KINDS, "residuals": RESIDUALS}


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _are_weights(values: Any, names: tuple[str, ...], least: float) -> bool:
    known = isinstance(values, Mapping) and set(values) <= set(names)
    return known and all(_is_number(value) and value >= least for value in values.values())


class URANetConfig(PreTrainedConfig):
    """Configuration of the URA-Net models.

    Sizes are counts unless said otherwise. The paper (arXiv 2603.22840) publishes no numbers for most of these fields;
    `docs/method.md` says which choices are the paper's and which are ours.

    Args:
        backbone: Name of a timm CNN that supports ``features_only``.
        out_indices: timm feature levels that are concatenated; at least one.
        image_size: Side S of the square network input, pixels; 32 to 2048.
        grid_size: Side G of the feature grid; divisible by `patch_size`.
        std_floor: Least standard deviation a channel is divided by, as a share of its level's median one, in [0, 1]. Above 0 it
            keeps channels that hardly ever fire on normal images from swamping all others.
        patch_size: Side k of a token, in grid cells.
        hidden_size: Token width d; divisible by `num_attention_heads`.
        num_hidden_layers: Restoration blocks, at least 1.
        num_attention_heads: Heads of restoration attention.
        mlp_ratio: Width of a block's feed-forward layer over `hidden_size`.
        bottleneck_dropout: Dropout on the embedded tokens during training, in [0, 1).
        memory_tokens: Normal tokens of the training set that every restoration attends to (0: only the image's own).
        memory_cells: Normal cells of the training set that every cell is compared with; 0 where no residual of the memory has
            a weight.
        subspace_rank: Most directions in which normal images may differ as a whole; 0 where ``subspace_l2`` has no weight.
        perception_size: Hidden channels of the Bayesian perception.
        bayesian_perception: Whether the perception's last two layers have distributions over their weights; without, no KL and
            no epistemic uncertainty.
        prior_std: Standard deviation of the weights' Gaussian prior, > 0.
        num_samples: Weight samples drawn at inference for the predictive distribution, at least 1.
        sample_seed: Seed of these samples: the same image and weights give the same maps.
        uncertainty_weight: w in the suspicion m = clip(p + w u, 0, 1), >= 0.
        weigh_keys: Whether attention weighs keys by their normality, log(1 - m + eps).
        take_out_queries: Whether suspicious content is taken out of the queries, (1 - m) t + m t_mask. With neither and no
            `memory_tokens`, what is left is plain reconstruction.
        source_weights: Relative weights of the anomaly sources ``texture``, ``self`` and ``noise``.
        mask_weights: Relative weights of the mask families ``large``, ``small``, ``thin``, ``subtle`` and ``empty``.
        max_blend: Upper end of b ~ U(0, max_blend) in F~ = (1-M) F + M (b F + (1-b) A), in [0, 1).
        residuals: Weights of the residuals whose geometric mean is the map. ``restored_l2``, ``restored_direction``: between the
            features and the restored ones; ``memory_l2``: from the deep levels to their nearest normal cell of the memory;
            ``memory_all_l2``: the same of all levels; ``memory_shallow_l2``: the same of the shallowest level, which has a
            memory of its own; ``subspace_l2``: from the second level to the subspace of whole normal images, coarse;
            ``probability``: the perception's.
        adapt_residuals: Whether calibration multiplies these weights by each residual's reliability on held-out normal images,
            and measures `spread_ratio`.
        reliabilities: What calibration measured, by residual, > 0; None before it, and where `adapt_residuals` is off.
        smoothing_sigma: Standard deviation of the map's Gaussian filter, pixels of the network input, >= 0.
        image_score: ``max``, ``std`` or ``topk`` (mean of the largest `topk_fraction`) of the map.
        topk_fraction: Share of the pixels that ``topk`` averages, in (0, 1].
        subspace_share: Share b of the mean subspace residual s in the image score, map^(1 - b) s^b, in [0, 1], where both
            spread alike on good images, times N / (N + 100) of N training images; without effect where ``subspace_l2`` has no
            weight.
        spread_ratio: How widely the map's score spreads over held-out normal images against the mean subspace residual, > 0; its
            square multiplies the odds of `subspace_share`. None before calibration (1), and where `adapt_residuals` is off.
        cosine_weight: lambda_c of the restoration loss.
        perception_weight: lambda_p of the restoration loss.
        hard_normal_power: Focus of the restoration loss on badly restored normal cells; 0 weighs all cells alike.
        image_threshold: Raw image score at which the verdict flips; None before calibration.
        pixel_threshold: Raw map value at which a pixel counts as anomalous; None before calibration.
        false_positive_rate: Rate on held-out normal images that the thresholds were calibrated for, in (0, 1).

    Raises:
        UserError: A field is out of its range; the message names the field, the range and the value.
    """

    model_type = "uranet"

    backbone: str = BACKBONE
    out_indices: list[int] = field(default_factory=lambda: [1, 2, 3])
    image_size: int = IMAGE_SIZE
    grid_size: int = GRID_SIZE
    std_floor: float = 0.25
    patch_size: int = 2
    hidden_size: int = 256
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    mlp_ratio: float = 2.0
    bottleneck_dropout: float = 0.1
    memory_tokens: int = 128
    memory_cells: int = 8192
    subspace_rank: int = 256
    perception_size: int = 128
    bayesian_perception: bool = True
    prior_std: float = 0.1
    num_samples: int = 8
    sample_seed: int = 0
    uncertainty_weight: float = 0.5
    weigh_keys: bool = True
    take_out_queries: bool = True
    source_weights: dict[str, float] = field(default_factory=lambda: dict(SOURCE_WEIGHTS))
    mask_weights: dict[str, float] = field(default_factory=lambda: dict(MASK_WEIGHTS))
    max_blend: float = 0.8
    residuals: dict[str, float] = field(default_factory=lambda: dict(RESIDUAL_WEIGHTS))
    adapt_residuals: bool = True
    reliabilities: dict[str, float] | None = None
    smoothing_sigma: float = 6.0
    image_score: str = "max"
    topk_fraction: float = 0.01
    subspace_share: float = 0.6
    spread_ratio: float | None = None
    cosine_weight: float = 1.0
    perception_weight: float = 1.0
    hard_normal_power: float = 0.0
    image_threshold: float | None = None
    pixel_threshold: float | None = None
    false_positive_rate: float = FALSE_POSITIVE_RATE

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.out_indices, tuple):
            self.out_indices = list(self.out_indices)
        defaults = {"source_weights": SOURCE_WEIGHTS, "mask_weights": MASK_WEIGHTS, "residuals": RESIDUAL_WEIGHTS}
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
        return super().from_dict({**config_dict, **own}, **kwargs)

    @classmethod
    def own_fields(cls) -> list[str]:
        """Names of the fields that are not every model's."""
        return [name for name in URANetConfig.__annotations__ if name != "model_type"]

    def to_diff_dict(self) -> dict[str, Any]:
        """As in transformers, and every field of ours: a checkpoint must not change when a later version has other defaults."""
        return {**super().to_diff_dict(), **{name: getattr(self, name) for name in self.own_fields()}}

    @property
    def is_calibrated(self) -> bool:
        """Whether both thresholds were measured on held-out normal images."""
        return None not in (self.image_threshold, self.pixel_threshold)

    @property
    def residual_weights(self) -> dict[str, float]:
        """Weights of the residuals in the map, > 0, with their reliabilities where calibration measured them."""
        found = self.reliabilities or {}
        wanted = {name: self.residuals.get(name, 0) * found.get(name, 1) for name in RESIDUALS}
        return {name: weight for name, weight in wanted.items() if weight > 0}

    @property
    def whole_image_share(self) -> float:
        """b r^2 / (b r^2 + 1 - b) with b = `subspace_share` and r = `spread_ratio`, in [0, 1]."""
        weight = self.subspace_share * (1 if self.spread_ratio is None else self.spread_ratio**2)
        return weight / (weight + 1 - self.subspace_share)

    def _check(self) -> None:
        self._check_ranges()
        self._check_weights()
        self._check_architecture()
        self._check_residuals()

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
            self._require(_is_number(value) and least <= value <= most, name, f"a number from {least} to {most}")
        for name in SWITCHES:
            self._require(isinstance(getattr(self, name), bool), name, "True or False")
        for name in MEASURED:
            value = getattr(self, name)
            known = value is None or (_is_number(value) and value > 0)
            self._require(known, name, "a positive, finite number or None")
        self._require(self.image_score in SCORE_RULES, "image_score", f"one of {SCORE_RULES}")

    def _check_weights(self) -> None:
        for name, names in WEIGHTS.items():
            weights = getattr(self, name)
            self._require(_are_weights(weights, names, 0), name, f"finite weights >= 0 for some of {names}")
            self._require(sum(weights.values()) > 0, name, "weights with a positive sum")
        found = self.reliabilities
        known = found is None or _are_weights(found, RESIDUALS, math.ulp(0.0))
        self._require(known, "reliabilities", "positive numbers or None")

    def _check_architecture(self) -> None:
        name_fits = isinstance(self.backbone, str) and bool(BACKBONE_NAME.fullmatch(self.backbone))
        self._require(name_fits, "backbone", "a timm CNN's name")
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

    def _check_residuals(self) -> None:
        for name in MEMORY_RESIDUALS:
            self._require(self.memory_cells > 0 or not self.residuals.get(name), "memory_cells", f"above 0 for {name}")
        weighed = self.residuals.get("subspace_l2")
        self._require(self.subspace_rank > 0 or not weighed, "subspace_rank", "above 0 for subspace_l2")
