"""anomalib's models with the given ResNet-18 weights, trained as documented, behind the interface of our evaluation.

Needs `pip install -e .[benchmarks]`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import timm
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from anomalib.models.image.stfpm.loss import STFPMLoss
from anomalib.models.image.stfpm.torch_model import STFPMModel
from anomalib.models.image.supersimplenet.loss import SSNLoss
from anomalib.models.image.supersimplenet.torch_model import SupersimplenetModel
from safetensors.torch import load_file
from torch import Tensor, nn

BACKBONE = "resnet18"
ALL = ["layer1", "layer2", "layer3"]
DEEP = ["layer2", "layer3"]
SIDE = 256
BATCH = 16


class Rival(nn.Module):
    """One of anomalib's torch models, with what `ura_hf.evaluation.evaluate` asks of a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(image_threshold=None, image_size=SIDE, image_score="the model's own")

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        """(B, 3, S, S) normalised pixels -> image_score (B,), anomaly_map (B, S, S)."""
        found = self.model(pixel_values)
        return SimpleNamespace(image_score=found.pred_score.flatten(), anomaly_map=found.anomaly_map.flatten(0, 1))


def _given_weights(model: nn.Module, teachers: list[nn.Module], weights: Path) -> None:
    """Load the same weights into every pretrained part, and make sure that every tensor was there."""
    given = load_file(weights)
    for teacher in teachers:
        own = teacher.state_dict()
        absent = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
        if absent:
            raise SystemExit(f"{weights} lacks {len(absent)} tensors of the backbone, first {absent[0]}")
        teacher.load_state_dict({key: given.get(key, value) for key, value in own.items()})


def _batches(images: Tensor, budget: float, epochs: int, size: int) -> Iterator[tuple[Tensor, float]]:
    """Shuffled batches and the share of the training that is over, until the epochs or the seconds are used up."""
    began = time.monotonic()
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(order) - size + 1, size):
            share = max((time.monotonic() - began) / budget, epoch / epochs)
            if share >= 1:
                return
            yield images[order[start : start + size]], share


def _feed(model: Any, images: Tensor) -> None:
    model.train()
    model.feature_extractor.eval()
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            model(images[start : start + BATCH])


def _patchcore(ratio: float, weights: Path, images: Tensor, budget: float) -> tuple[nn.Module, dict[str, Any]]:
    model = PatchcoreModel(layers=DEEP, backbone=BACKBONE, pre_trained=False, num_neighbors=9)
    _given_weights(model, [model.feature_extractor.feature_extractor], weights)
    _feed(model, images)
    model.subsample_embedding(ratio)
    return model, {"coreset_ratio": ratio, "memory_vectors": len(model.memory_bank)}


def _padim(weights: Path, images: Tensor, budget: float) -> tuple[nn.Module, dict[str, Any]]:
    model = PadimModel(backbone=BACKBONE, layers=ALL, pre_trained=False)
    _given_weights(model, [model.feature_extractor.feature_extractor], weights)
    _feed(model, images)
    model.fit()
    return model, {"n_features": model.n_features}


def _stfpm(weights: Path, images: Tensor, budget: float) -> tuple[nn.Module, dict[str, Any]]:
    model = STFPMModel(layers=ALL, backbone=BACKBONE)
    _given_weights(model, [model.teacher_model.feature_extractor], weights)
    optimizer = torch.optim.SGD(model.student_model.parameters(), lr=0.4, momentum=0.9, weight_decay=0.001)
    return model, _descend(model, optimizer, STFPMLoss(), _batches(images, budget, 100, 32), model.teacher_model)


def _reverse_distillation(weights: Path, images: Tensor, budget: float) -> tuple[nn.Module, dict[str, Any]]:
    model = ReverseDistillationModel(BACKBONE, (SIDE, SIDE), ALL, AnomalyMapGenerationMode.ADD, pre_trained=False)
    _given_weights(model, [model.encoder.feature_extractor], weights)
    learned = [*model.decoder.parameters(), *model.bottleneck.parameters()]
    optimizer = torch.optim.Adam(learned, lr=0.005, betas=(0.5, 0.99))
    return model, _descend(
        model, optimizer, ReverseDistillationLoss(), _batches(images, budget, 200, 16), model.encoder
    )


def _descend(model: nn.Module, optimizer: Any, loss: Any, batches: Any, fixed: nn.Module) -> dict[str, Any]:
    model.train()
    fixed.eval()
    steps, value = 0, float("nan")
    for batch, _ in batches:
        optimizer.zero_grad()
        error = loss(*model(batch))
        error.backward()
        optimizer.step()
        steps, value = steps + 1, float(error)
    return {"steps": steps, "last_loss": value}


def _supersimplenet(weights: Path, images: Tensor, budget: float) -> tuple[nn.Module, dict[str, Any]]:
    model = SupersimplenetModel(backbone=BACKBONE, layers=DEEP)
    _given_weights(model, [model.feature_extractor.feature_extractor.feature_extractor], weights)
    groups = [
        {"params": model.adaptor.parameters(), "lr": 1e-4},
        {"params": model.segdec.parameters(), "lr": 2e-4, "weight_decay": 1e-5},
    ]
    optimizer, loss = torch.optim.AdamW(groups), SSNLoss()
    model.train()
    steps, error = 0, torch.tensor(float("nan"))
    first = [group["lr"] for group in optimizer.param_groups]
    for batch, share in _batches(images, budget, 300, 32):
        for group, rate in zip(optimizer.param_groups, first, strict=True):
            group["lr"] = rate * 0.4 ** ((share >= 0.8) + (share >= 0.9))
        maps, scores, masks, labels = model(batch, None, torch.zeros(len(batch)))
        optimizer.zero_grad()
        error = loss(pred_map=maps, pred_score=scores, target_mask=masks, target_label=labels)
        error.backward()
        optimizer.step()
        steps += 1
    return model, {"steps": steps, "last_loss": float(error)}


RIVALS: dict[str, Callable[..., tuple[nn.Module, dict[str, Any]]]] = {
    "patchcore_0.01": functools.partial(_patchcore, 0.01),
    "patchcore_0.1": functools.partial(_patchcore, 0.1),
    "padim": _padim,
    "stfpm": _stfpm,
    "reverse_distillation": _reverse_distillation,
    "supersimplenet": _supersimplenet,
}


def train_rival(name: str, weights: Path, images: Tensor, budget: float, seed: int) -> tuple[Rival, dict[str, Any]]:
    """Fit a rival on normalised images (N, 3, S, S); gradient-trained ones stop at their epochs or after `budget` seconds."""
    torch.manual_seed(seed)
    unweighted = functools.partial(_create_without_weights, timm.create_model)
    with mock.patch.object(timm, "create_model", unweighted):  # some ask for pretrained weights whatever one passes
        model, facts = RIVALS[name](weights, images, budget)
    return Rival(model).eval(), facts


def _create_without_weights(create: Any, *args: Any, **kwargs: Any) -> Any:
    return create(*args, **{**kwargs, "pretrained": False})
