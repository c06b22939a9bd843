"""URA-Net as transformers models: images in, restored features and maps out; scores on top."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional

from .backbone import Backbone
from .configuration_uranet import PEAKS, URANetConfig
from .errors import UserError
from .perception import AnomalyPerception, Perception, binary_entropy
from .picture import PictureDecoder, replaced
from .pretrained import URANetOutput, URANetPreTrainedModel
from .region import Region
from .restoration import FeatureRestoration
from .scoring import fixed_scale, log_residual, ordinary, positive, standardized
from .views import NormalViews


class URANetModel(URANetPreTrainedModel):
    """Features, perception and restoration: the network of the paper without losses and scores."""

    def __init__(self, config: URANetConfig) -> None:
        super().__init__(config)
        c = config
        self.region = Region(c.roi, c.grid_size)
        self.extractor = Backbone(c.backbone, c.out_indices, c.grid_size, c.image_size, self.region)
        for module in self.extractor.modules():
            module._uranet_frozen = True  # type: ignore[assignment]
        sizes = (c.components, c.place_components, c.memory_cells, c.image_rank)
        self.views = NormalViews(self.extractor.channels, c.grid_size, *sizes, self.region)
        self.perception = AnomalyPerception(
            self.views.components, c.perception_size, c.prior_std, c.bayesian_perception
        )
        self.restoration = FeatureRestoration(
            self.views.components,
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
        pixels = min(c.cell_pixels, c.image_size // c.grid_size)
        self.decoder = PictureDecoder(self.views.components, c.grid_size, pixels) if pixels else None
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

    def restore(
        self, features: Tensor, components: Tensor, belief: Perception, views: NormalViews | None = None
    ) -> Tensor:
        """Restored features, (B, C, G, G), of features (B, C, G, G) with components c, given what is believed of them.

        Every cell becomes the normal cell that is nearest to (1 - p) c + p R(c, m), with restoration R: the likelier an anomaly,
        the less its content decides, and the more its surroundings. `views` may have other axes than the model's own.
        """
        seen = self.views.standardize(components)
        restored = self.views.unstandardize(self.restoration(seen, self.suspicion_of(belief.logits)))
        if views is not None:
            components, restored = views.project(features), views.project(self.views.features(restored))
        views = views or self.views
        wanted = torch.lerp(components, restored.float(), belief.probability.float())
        return views.features(views.memory.nearest(wanted).to(views.axes.dtype))

    def believe(self, components: Tensor, memory: Tensor | None, num_samples: int | None = None) -> Perception:
        """What perception says of components (B, K, G, G), given the log of the view `memory`, (B, 1, G, G).

        The farther cells are from all good ones than is usual, in deviations of good images, the less sure it is. With None, or
        before calibration, distance does not count.
        """
        standard = (self.config.standards or {}).get("memory")
        far = None if standard is None or memory is None else standardized(memory, standard).clamp_min(0)
        return self.perception.predict(self.views.standardize(components), num_samples, far=far)

    def log(self, residual: Tensor) -> Tensor:
        """`log_residual` as the config smooths it, of residuals of cells (B, 1, G, G) or images (B,) -> same."""
        c = self.config
        return log_residual(residual, c.smoothing_sigma * c.grid_size / c.image_size, self.region)

    def suspicion_of(self, logits: Tensor) -> Tensor:
        """`suspicion` of logits as they were trained, before calibration, which restoration has learnt from; same shape."""
        probability = logits.float().sigmoid()
        return self.suspicion(probability, binary_entropy(probability))

    def look(
        self, features: Tensor, views: NormalViews | None = None, names: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """`log_residual` of the configured views of features (B, C, G, G): maps (B, 1, G, G), and ``image`` (B,).

        `views` stand in place of the model's own, `names` in place of the config's.
        """
        return self.inspect(features, 0, views, names)[0]

    def inspect(
        self,
        features: Tensor,
        num_samples: int | None = None,
        views: NormalViews | None = None,
        names: Collection[str] = (),
    ) -> tuple[dict[str, Tensor], Perception | None, Tensor | None]:
        """As `look`, and what is believed of features, and their restored ones, (B, C, G, G); the last two None with 0 samples.

        Views are of closed form whatever the samples, so that a score is always the same.
        """
        names, learns = names or self.config.all_views, num_samples != 0
        restores = learns or "restored" in names
        perceives = restores or "perceived" in names
        components = self.views.project(features) if perceives or views is None else None
        found = (views or self.views).look(features, components if views is None else None)
        logs = {name: self.log(found[name]) for name in found if name in names or name == "memory"}
        if not perceives or components is None:
            return {name: logs[name] for name in names}, None, None
        belief = self.believe(components, logs["memory"])
        logs["perceived"] = self.log(belief.odds)
        restored = self.restore(features, components, belief, views) if restores else None
        if restored is not None:
            logs["restored"] = self.log((features - restored).float().square().mean(1, keepdim=True))
        if num_samples:
            belief = self.believe(components, logs["memory"], num_samples)
        return {name: logs[name] for name in names}, belief if learns else None, restored if learns else None

    def add_up(self, logs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the standardised maps of `look`, (B, S, S), and what the image score adds up by name, (B,) each.

        Maps of the config's `score_views` alone are left out of the sum. Outside of the region of interest it is -inf.
        What is added up is the largest value of what lies in the cells, the largest of what does not belong to its place, and
        the whole image: one that peaks widely on good images must not hide another.
        """
        standards = self.config.standards or {}
        z = {name: standardized(log, standards.get(name)) for name, log in logs.items()}
        parts = {"image": z.pop("image")} if "image" in z else {}
        for peak, names in PEAKS.items():
            if own := [z[name] for name in names if name in z]:
                parts[peak] = self.region.fill(torch.stack(own).sum(0), -math.inf).amax((1, 2, 3))
        shown = [value for name, value in z.items() if name in self.config.views]
        return self.region.fill(self.to_image(torch.stack(shown).sum(0)), -math.inf), parts

    def score(self, parts: dict[str, Tensor]) -> Tensor:
        """The sum of the parts of `add_up`, those that are peaks standardised -> (B,)."""
        standards = self.config.standards or {}
        z = [standardized(part, standards.get(name)) if name in PEAKS else part for name, part in parts.items()]
        return torch.stack(z).sum(0)

    def strangeness(self, logs: dict[str, Tensor]) -> Tensor | None:
        """`ordinary` of `look`'s logs on the config's scale, (B,): 0 as of good images, 1 at the limit of the part."""
        limits = self.config.strangeness
        if limits is None or "memory" not in logs:
            return None
        return (ordinary(logs["memory"], self.region) - limits[0]) / (limits[1] - limits[0])

    def to_image(self, cells: Tensor) -> Tensor:
        """Maps of cells at the size of the input, (B, 1, G, G) -> (B, S, S)."""
        side = self.config.image_size
        return functional.interpolate(cells, (side, side), mode="bilinear")[:, 0]

    def forward(
        self,
        pixel_values: Tensor | None = None,
        features: Tensor | None = None,
        num_samples: int | None = None,
        return_dict: bool | None = None,
        return_restored: bool = False,
    ) -> URANetOutput | tuple[Tensor, ...]:
        """Call `detect`; with `return_dict=False` the result is a tuple of the values that are not None."""
        out = self.detect(pixel_values, features, num_samples, return_restored)
        return out if _wants_dict(self.config, return_dict) else out.to_tuple()

    def detect(
        self,
        pixel_values: Tensor | None = None,
        features: Tensor | None = None,
        num_samples: int | None = None,
        return_restored: bool = False,
    ) -> URANetOutput:
        """Restore images and compute their anomaly maps.

        Args:
            pixel_values: Normalised images, (B, 3, S, S).
            features: Standardised features instead of images, (B, C, G, G).
            num_samples: Weights drawn for the maps of uncertainty; None: closed form; 0: neither they nor restored features.
            return_restored: Whether to make the pictures `seen_image` and `restored_image`, too.

        Raises:
            UserError: The model was never fitted to good images, the input has another shape, or there is no decoder of pictures.
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
        logs, belief, restored = self.inspect(features, num_samples)
        z, parts = self.add_up(logs)
        out = URANetOutput(
            features=features,
            anomaly_map=positive(z),
            image_score=positive(self.score(parts)),
            strangeness=self.strangeness(logs),
        )
        if belief is not None:
            out.restored_features = restored
            out.anomaly_probability = self.region.fill(self.to_image(belief.probability))
            out.total_uncertainty = self.region.fill(self.to_image(belief.total))
            out.aleatoric_uncertainty = self.region.fill(self.to_image(belief.aleatoric))
            out.epistemic_uncertainty = self.region.fill(self.to_image(belief.epistemic))
        if return_restored:
            out.seen_image, out.restored_image = self.draw(features, positive(z))
        return out

    def draw(self, features: Tensor, anomaly_map: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures of what the network sees in images, and of the parts as they should look; RGB in [0, 1], (B, 3, P, P) each.

        features (B, C, G, G), anomaly_map raw (B, S, S). With g from 0 to 1 where the map nears its threshold, suspicion m and
        components c, the second picture shows c + g (R(c, max(m, g)) - c): what is normal stays as it is seen.
        """
        c = self.config
        if self.decoder is None or c.pixel_threshold is None:
            raise UserError(
                "this checkpoint has no decoder of pictures, so it can't show the restored part: train it again with "
                "`uranet train`, without cell_pixels=0."
            )
        seen = self.views.standardize(self.views.project(features))
        gate = replaced(fixed_scale(anomaly_map, c.pixel_threshold)[:, None], c.grid_size).to(seen.dtype)
        suspicion = torch.maximum(self.suspicion_of(self.perception(seen)), gate)
        restored = torch.lerp(seen, self.restoration(seen, suspicion), gate)
        return self.decoder(seen).clamp(0, 1), self.decoder(restored).clamp(0, 1)


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
        return_restored: bool = False,
    ) -> URANetOutput | tuple[Tensor, ...]:
        """Detect: maps and scores of images.

        Args:
            pixel_values: Normalised images, (B, 3, S, S).
            features: Standardised features instead of images, (B, C, G, G).
            num_samples: Weights drawn for the maps of uncertainty; None: closed form; 0: neither they nor restored features.
            return_dict: False for a tuple of the values that are not None; None: as configured.
            return_restored: Whether to make the pictures `seen_image` and `restored_image`, too.

        Raises:
            UserError: The model was never fitted to good images, the input has another shape, or there is no decoder of pictures.
        """
        out = self.uranet.detect(pixel_values, features, num_samples, return_restored).fill_scores(self.config)
        return out if _wants_dict(self.config, return_dict) else out.to_tuple()


def _wants_dict(config: URANetConfig, return_dict: bool | None) -> bool:
    return bool(config.return_dict if return_dict is None else return_dict)
