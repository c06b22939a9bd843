"""URA-Net as transformers models: features in, restored features and maps out; losses and scores on top."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .backbone import Backbone
from .configuration_uranet import URANetConfig
from .errors import UserError
from .losses import dice_loss, focal_loss, weigh_hard_cells
from .memory import NormalMemory
from .perception import AnomalyPerception, Perception, binary_entropy
from .pretrained import URANetOutput, URANetPreTrainedModel
from .restoration import FeatureRestoration
from .scoring import direction_distance, fixed_scale, gaussian_smooth, geometric_mean, image_score, l2_distance
from .subspace import NormalSubspace
from .synthesis import synthesize


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
        """Direction residual of features as the CNN gives them, `plain`, and restored, that is standardised, ones.

        Two (B, C, G, G) -> (B, 1, G, G).
        """
        return direction_distance(plain, self.extractor.unstandardize(restored.float()), self.extractor.level_channels)

    def residuals(self, features: Tensor, restored: Tensor, probability: Tensor) -> dict[str, Tensor]:
        """Every residual that the config gives a weight, by its name, (B, 1, G, G) each; ``subspace_l2`` (B, 1, 8, 8)."""
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
        """What the perception believes, the restored features (B, C, G, G) and the residuals of features (B, C, G, G)."""
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
    ) -> URANetOutput:
        """Restore images and say where they are anomalous.

        Args:
            pixel_values: Normalised images, (B, 3, S, S).
            features: Standardised features in their stead, (B, C, G, G).
            num_samples: Weight samples of the predictive distribution; None: as configured.
        """
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
    """URA-Net with its training loss, image scores and thresholds."""

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
        textures: Tensor | None = None,
        num_samples: int | None = None,
        return_loss: bool | None = None,
        num_images: int = 8000,
        return_dict: bool | None = None,
    ) -> URANetOutput:
        """Detect, or with `return_loss` (default: in training mode) learn from normal images.

        Args:
            pixel_values: Normalised images, (B, 3, S, S); normal ones where the loss is asked.
            features: Standardised features in their stead, (B, C, G, G).
            textures: Standardised features of natural photos, (B, C, G, G), for artificial anomalies.
            num_samples: Weight samples of the predictive distribution; None: as configured.
            num_images: Artificial images that training shows in all; KL is divided by it times the cells of an image.
        """
        if self.training if return_loss is None else return_loss:
            if features is None:
                if pixel_values is None:
                    raise UserError("pixel_values or features must be given, but got neither.")
                features = self.uranet.extract(pixel_values)
            return self.learn(features, textures, num_images)
        out = self.uranet(pixel_values, features, num_samples)
        c = self.config
        out.image_score = self.score_images(self.score_maps(out.anomaly_map), out.whole_image_residual)
        if c.image_threshold is not None and c.pixel_threshold is not None:
            out.score = fixed_scale(out.image_score, c.image_threshold)
            out.score_map = fixed_scale(out.anomaly_map, c.pixel_threshold)
        return out

    def score_maps(self, maps: Tensor) -> Tensor:
        """Scores by the config's rule of maps alone, (B, S, S) -> (B,)."""
        return image_score(maps, self.config.image_score, self.config.topk_fraction)

    def score_images(self, of_maps: Tensor, whole_image_residuals: Tensor | None) -> Tensor:
        """m^(1 - a) s^a of scores m of maps and mean subspace residuals s, (B,) each, with a = `whole_image_share` * trust."""
        if whole_image_residuals is None:
            return of_maps
        share = self.config.whole_image_share * self.uranet.subspace.trust
        return of_maps ** (1 - share) * whole_image_residuals**share

    def learn(self, features: Tensor, textures: Tensor | None, num_images: int) -> URANetOutput:
        """Losses on artificial anomalies made from the features (B, C, G, G) of normal images."""
        c = self.config
        altered, mask = synthesize(features, textures, c.source_weights, c.mask_weights, c.max_blend)
        logits = self.uranet.perception(altered)
        perception = focal_loss(logits, mask) + dice_loss(logits, mask)
        kl = self.uranet.perception.kl() / (max(num_images, 1) * mask[0].numel())  # a cell is a datum
        probability = logits.detach().sigmoid()
        suspicion = self.uranet.suspicion(probability, binary_entropy(probability))
        doubt = torch.rand(len(features), 1, 1, 1, device=features.device)
        suspicion = suspicion * (2 * doubt).clamp_max(1)  # perception misses real anomalies: restore them all the same
        restored = self.uranet.restoration(altered, suspicion)
        l2 = l2_distance(features.float(), restored.float())
        plain = self.uranet.extractor.unstandardize(features.float())
        error = l2 + c.cosine_weight * self.uranet.direction(plain, restored)
        restoration = weigh_hard_cells(error, c.hard_normal_power)
        return URANetOutput(
            loss=restoration + c.perception_weight * (perception + kl),
            restoration_loss=restoration.detach(),
            perception_loss=perception.detach(),
            kl_loss=kl.detach(),
        )
