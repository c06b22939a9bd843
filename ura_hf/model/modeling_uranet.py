"""URA-Net as transformers models: images in, restored features and maps out; scores on top."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from .backbone import Backbone
from .configuration_uranet import URANetConfig
from .errors import UserError
from .memory import NormalMemory
from .perception import AnomalyPerception, Perception
from .pretrained import URANetOutput, URANetPreTrainedModel
from .restoration import FeatureRestoration
from .scoring import direction_distance, fixed_scale, gaussian_smooth, geometric_mean, image_score, l2_distance
from .subspace import NormalSubspace


class URANetModel(URANetPreTrainedModel):
    """Features, perception and restoration: the network of the paper without losses and scores."""

    def __init__(self, config: URANetConfig) -> None:
        super().__init__(config)
        c = config
        self.extractor = Backbone(c.backbone, c.out_indices, c.grid_size)
        for module in self.extractor.modules():
            module._uranet_frozen = True  # type: ignore[assignment]
        channels = self.extractor.channels
        self.perception = AnomalyPerception(channels, c.perception_size, c.prior_std, c.bayesian_perception)
        self.restoration = FeatureRestoration(
            channels,
            c.grid_size,
            c.patch_size,
            c.hidden_size,
            c.num_hidden_layers,
            c.num_attention_heads,
            c.mlp_ratio,
            c.bottleneck_dropout,
            c.memory_tokens,
            c.weigh_keys,
            c.take_out_queries,
        )
        levels = self.extractor.level_channels
        self.memory = NormalMemory(
            c.memory_cells, channels if c.residuals.get("memory_all_l2") else sum(self.extractor.deep_channels)
        )
        if c.residuals.get("memory_shallow_l2"):
            self.shallow_memory = NormalMemory(c.memory_cells, levels[0])
        if c.residuals.get("subspace_l2"):
            self.subspace = NormalSubspace(c.subspace_rank, levels[:2][-1])
        self.post_init()

    @property
    def backbone(self) -> Backbone:
        """The frozen feature extractor."""
        return self.extractor

    def suspicion(self, probability: Tensor, entropy: Tensor) -> Tensor:
        """m = clip(p + w u, 0, 1) with u = entropy / ln 2; all (B, 1, G, G)."""
        return (probability + self.config.uncertainty_weight * entropy / math.log(2)).clamp(0, 1)

    def extract(self, pixel_values: Tensor) -> Tensor:
        """Standardised features of images: (B, 3, S, S) normalised pixels -> (B, C, G, G)."""
        side = self.config.image_size
        if pixel_values.shape[1:] != (3, side, side):
            raise UserError(
                f"pixel_values must be (B, 3, {side}, {side}), but got {tuple(pixel_values.shape)}: "
                "prepare images with URANetImageProcessor."
            )
        return self.extractor(pixel_values.to(self.dtype))

    def direction(self, plain: Tensor, restored: Tensor) -> Tensor:
        """Direction residual between features before standardisation, `plain`, and standardised restored features.

        Two (B, C, G, G) -> (B, 1, G, G).
        """
        return direction_distance(plain, self.extractor.unstandardize(restored.float()), self.extractor.level_channels)

    def residuals(self, features: Tensor, restored: Tensor, probability: Tensor) -> dict[str, Tensor]:
        """The residuals with a weight in the config by name, each (B, 1, G, G); ``subspace_l2`` (B, 1, 8, 8)."""
        levels = self.extractor.level_channels
        plain = self.extractor.unstandardize(features.float())
        parts = {
            "restored_l2": lambda: l2_distance(features.float(), restored.float(), levels),
            "restored_direction": lambda: self.direction(plain, restored),
            "memory_l2": lambda: self.memory.distance(self.extractor.deep(plain)),
            "memory_all_l2": lambda: self.memory.distance(plain),
            "memory_shallow_l2": lambda: self.shallow_memory.distance(self.extractor.level(plain, 0)),
            "subspace_l2": lambda: self.subspace.distance(self.extractor.level(plain, 1)),
            "probability": lambda: probability,
        }
        return {name: parts[name]() for name in self.config.residual_weights}

    def perceive(
        self, features: Tensor, num_samples: int | None = None
    ) -> tuple[Perception, Tensor, dict[str, Tensor]]:
        """Perception, restored features (B, C, G, G) and residuals by name for features (B, C, G, G)."""
        c = self.config
        belief = self.perception.predict(features, c.num_samples if num_samples is None else num_samples, c.sample_seed)
        restored = self.restoration(features, self.suspicion(belief.probability, belief.total))
        return belief, restored, self.residuals(features, restored, belief.probability)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        features: Tensor | None = None,
        num_samples: int | None = None,
        return_dict: bool | None = None,
    ) -> URANetOutput | tuple[Tensor, ...]:
        """Call `detect`; with `return_dict=False` the result is a tuple of the values that are not None."""
        out = self.detect(pixel_values, features, num_samples)
        return out if _wants_dict(self.config, return_dict) else out.to_tuple()

    def detect(
        self, pixel_values: Tensor | None = None, features: Tensor | None = None, num_samples: int | None = None
    ) -> URANetOutput:
        """Restore images and compute their anomaly maps.

        Args:
            pixel_values: Normalised images, (B, 3, S, S).
            features: Standardised features instead of images, (B, C, G, G).
            num_samples: Weight samples of the predictive distribution; None: as configured.

        Raises:
            UserError: The model was never fitted to good images, or the input has another shape.
        """
        if not self.extractor.is_fitted:
            raise UserError(
                "this model was never fitted to good images, so it has nothing to compare with: train it with "
                "`uranet train`, or load a trained checkpoint with from_pretrained."
            )
        if features is None:
            if pixel_values is None:
                raise UserError("pixel_values or features must be given, but got neither.")
            features = self.extract(pixel_values)
        c = self.config
        belief, restored, residuals = self.perceive(features, num_samples)
        weights: dict[str, float | Tensor] = dict(c.residual_weights)
        if (whole := residuals.get("subspace_l2")) is not None:
            weights["subspace_l2"] = weights["subspace_l2"] * self.subspace.trust.float()
        raw = geometric_mean(list(residuals.values()), list(weights.values()), c.image_size)

        def to_image(cells: Tensor) -> Tensor:
            return functional.interpolate(cells, (c.image_size, c.image_size), mode="bilinear")[:, 0]

        return URANetOutput(
            features=features,
            restored_features=restored,
            anomaly_map=gaussian_smooth(raw, c.smoothing_sigma)[:, 0],
            whole_image_residual=None if whole is None else whole.mean((1, 2, 3)),
            anomaly_probability=to_image(belief.probability),
            total_uncertainty=to_image(belief.total),
            aleatoric_uncertainty=to_image(belief.aleatoric),
            epistemic_uncertainty=to_image(belief.epistemic),
        )


class URANetForAnomalyDetection(URANetPreTrainedModel):
    """URA-Net with image scores and thresholds."""

    def __init__(self, config: URANetConfig) -> None:
        super().__init__(config)
        self.uranet = URANetModel(config)
        self.post_init()

    @property
    def backbone(self) -> Backbone:
        """The frozen feature extractor."""
        return self.uranet.extractor

    def forward(
        self,
        pixel_values: Tensor | None = None,
        features: Tensor | None = None,
        num_samples: int | None = None,
        return_dict: bool | None = None,
    ) -> URANetOutput | tuple[Tensor, ...]:
        """Detect: maps and scores of images.

        Args:
            pixel_values: Normalised images, (B, 3, S, S).
            features: Standardised features instead of images, (B, C, G, G).
            num_samples: Weight samples of the predictive distribution; None: as configured.
            return_dict: False for a tuple of the values that are not None; None: as configured.

        Raises:
            UserError: The model was never fitted to good images, or the input has another shape.
        """
        out = self.uranet.detect(pixel_values, features, num_samples)
        c = self.config
        assert out.anomaly_map is not None
        out.image_score = self.score_images(self.score_maps(out.anomaly_map), out.whole_image_residual)
        if c.image_threshold is not None and c.pixel_threshold is not None:
            out.score = fixed_scale(out.image_score, c.image_threshold)
            out.score_map = fixed_scale(out.anomaly_map, c.pixel_threshold)
        return out if _wants_dict(c, return_dict) else out.to_tuple()

    def score_maps(self, maps: Tensor) -> Tensor:
        """Scores of raw maps by the config's rule `image_score`, (B, S, S) -> (B,)."""
        return image_score(maps, self.config.image_score, self.config.topk_fraction)

    def score_images(self, of_maps: Tensor, whole_image_residuals: Tensor | None) -> Tensor:
        """m^(1 - a) s^a of scores m of maps and mean subspace residuals s, (B,) each, with a = `whole_image_share` * trust."""
        if whole_image_residuals is None:
            return of_maps
        share = self.config.whole_image_share * self.uranet.subspace.trust
        return of_maps ** (1 - share) * whole_image_residuals**share


def _wants_dict(config: URANetConfig, return_dict: bool | None) -> bool:
    return bool(config.return_dict if return_dict is None else return_dict)
