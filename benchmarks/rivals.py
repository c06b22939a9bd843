"""anomalib's models with the given backbone and weights, trained as documented, behind the interface of our evaluation.

Needs `pip install -e .[benchmarks]`. Made faster without another result, up to rounding: frozen extractors see each training
image once, students compute channels-last, and coresets are selected by `ura_hf.training.coreset.farthest_points`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
from anomalib.data.utils.generators.perlin import generate_perlin_noise
from anomalib.models.components.sampling import KCenterGreedy
from anomalib.models.image.dfm.torch_model import DFMModel
from anomalib.models.image.fre.torch_model import FREModel
from anomalib.models.image.mh_patchcore import components as mh_components
from anomalib.models.image.mh_patchcore.torch_model import MHPatchcoreModel
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from anomalib.models.image.stfpm.loss import STFPMLoss
from anomalib.models.image.stfpm.torch_model import STFPMModel
from anomalib.models.image.supersimplenet import anomaly_generator
from anomalib.models.image.supersimplenet.loss import SSNLoss
from anomalib.models.image.supersimplenet.torch_model import SupersimplenetModel
from descent import BATCH, Budget, cached, descend
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from wrapped import SIDE, Rival

from ura_hf.model.backbone import OWN
from ura_hf.training.coreset import farthest_points

BACKBONE = "resnet18"  # or what is put in its place, with layers of the same names, channels and strides
ALL = ["layer1", "layer2", "layer3"]
DEEP = ["layer2", "layer3"]


def _given_weights(teachers: list[nn.Module], weights: Path) -> None:
    """Load the same weights into every pretrained part, and make sure that every tensor was there."""
    given = load_file(weights)
    for teacher in teachers:
        own = teacher.state_dict()
        absent = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
        if absent:
            raise SystemExit(f"{weights} lacks {len(absent)} tensors of the backbone, first {absent[0]}")
        teacher.load_state_dict({key: given.get(key, value) for key, value in own.items()})


def _feed(model: Any, images: Tensor) -> None:
    model.train()
    model.feature_extractor.eval()
    with torch.no_grad():
        for batch in images.split(BATCH):
            model(batch)


def _select_coreset(sampler: KCenterGreedy) -> list[int]:
    """As anomalib selects: the same sparse projection and random start, then farthest points."""
    sampler.model.fit(sampler.embedding)
    points = sampler.model.transform(sampler.embedding)
    first = int(torch.randint(high=sampler.n_observations, size=(1,)))
    return farthest_points(points, sampler.coreset_size, first).tolist()


def _mh_coreset(embeddings: Tensor, target_size: int) -> Tensor:
    """As MH-PatchCore selects: farthest points from the one that is farthest from the mean, float64."""
    count = min(target_size, len(embeddings))
    if count == len(embeddings):
        return embeddings.clone()
    first = torch.linalg.vector_norm(embeddings - embeddings.mean(0), dim=1).argmax()
    return embeddings[farthest_points(embeddings, count, int(first))]


def check_selections() -> None:
    """Compare both selections with anomalib's own on random points, more than a pool of `farthest_points` holds."""
    points = torch.randn(2500, 40, generator=torch.Generator().manual_seed(0))
    found = []
    for select in (KCenterGreedy.select_coreset_idxs, _select_coreset):
        torch.manual_seed(0)
        np.random.seed(0)
        found.append(select(KCenterGreedy(points, 0.08)))
    blocks = [select(points.double(), 200) for select in (mh_components._farthest_first_coreset, _mh_coreset)]
    if found[0] != found[1] or not torch.equal(*blocks):
        raise SystemExit(
            "the fast coreset differs from anomalib's: compare ura_hf.model.memory with the installed anomalib."
        )


def _patchcore(ratio: float, weights: Path, images: Tensor, budget: Budget) -> tuple[nn.Module, dict[str, Any]]:
    model = PatchcoreModel(layers=DEEP, backbone=BACKBONE, pre_trained=False, num_neighbors=9).to(images.device)
    _given_weights([model.feature_extractor.feature_extractor], weights)
    _feed(model, images)
    if ratio < 1:
        with mock.patch.object(KCenterGreedy, "select_coreset_idxs", _select_coreset):
            model.subsample_embedding(ratio)
    else:
        model.memory_bank = torch.vstack(model.embedding_store)
    return model, {"coreset_ratio": ratio, "memory_vectors": len(model.memory_bank)}


def _mh_patchcore(weights: Path, images: Tensor, budget: Budget) -> tuple[nn.Module, dict[str, Any]]:
    model = MHPatchcoreModel(layers=DEEP, backbone=BACKBONE, pre_trained=False).to(images.device)
    _given_weights([model.feature_extractor.feature_extractor], weights)
    model.train()
    with (
        torch.no_grad(),
        cached(model, "feature_extractor", images) as cache,
        mock.patch.object(mh_components, "_farthest_first_coreset", _mh_coreset),
    ):
        model.feature_extractor.out_dims = [features.shape[1] for features in cache.features.values()]
        passes = (model.pca.update, lambda x: model.covariance.update(model.pca(x)), None)
        for update, part in zip(passes, (model.pca, model.covariance, model.memory_bank), strict=True):
            for cache.rows in torch.randperm(len(images)).split(32):
                embeddings = model(images[cache.rows])
                if update is None:
                    model.memory_bank.update(model.covariance(model.pca(embeddings)))
                else:
                    update(embeddings)
            part.finalize()
    return model, {"memory_vectors": len(model.memory_bank.bank), "components": model.memory_bank.bank.shape[1]}


def _padim(weights: Path, images: Tensor, budget: Budget) -> tuple[nn.Module, dict[str, Any]]:
    model = PadimModel(backbone=BACKBONE, layers=ALL, pre_trained=False).to(images.device)
    _given_weights([model.feature_extractor.feature_extractor], weights)
    _feed(model, images)
    model.fit()
    return model, {"n_features": model.n_features}


def _dfm(weights: Path, images: Tensor, budget: Budget) -> tuple[nn.Module, dict[str, Any]]:
    model = DFMModel(backbone=BACKBONE, layer="layer3", pre_trained=False).to(images.device)
    _given_weights([model.feature_extractor.feature_extractor], weights)
    _feed(model, images)
    model.fit()
    return model, {"components": int(model.pca_model.num_components)}


def _fre(weights: Path, images: Tensor, budget: Budget) -> tuple[nn.Module, dict[str, Any]]:
    model = FREModel(BACKBONE, "layer3", input_dim=256 * 8 * 8, pre_trained=False, pooling_kernel_size=2).to(
        images.device
    )
    _given_weights([model.feature_extractor.feature_extractor], weights)
    optimizer = torch.optim.Adam(model.fre_model.parameters(), lr=1e-3)

    def error_of(batch: Tensor) -> Tensor:
        features, rebuilt, _ = model.get_features(batch)
        return functional.mse_loss(features, rebuilt)

    with cached(model, "feature_extractor", images) as cache:
        return model, descend(model.fre_model, images, cache, optimizer, error_of, 220, 32, budget)


def _stfpm(weights: Path, images: Tensor, budget: Budget) -> tuple[nn.Module, dict[str, Any]]:
    model = STFPMModel(layers=ALL, backbone=BACKBONE).to(images.device)
    _given_weights([model.teacher_model.feature_extractor], weights)
    model.student_model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.student_model.parameters(), lr=0.4, momentum=0.9, weight_decay=0.001)
    loss = STFPMLoss()
    model.train()
    with cached(model, "teacher_model", images) as cache:
        return model, descend(
            model.student_model, images, cache, optimizer, lambda batch: loss(*model(batch)), 100, 32, budget
        )


def _reverse_distillation(weights: Path, images: Tensor, budget: Budget) -> tuple[nn.Module, dict[str, Any]]:
    model = ReverseDistillationModel(BACKBONE, (SIDE, SIDE), ALL, AnomalyMapGenerationMode.ADD, pre_trained=False).to(
        images.device
    )
    _given_weights([model.encoder.feature_extractor], weights)
    learned = nn.ModuleList([model.decoder, model.bottleneck]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.005, betas=(0.5, 0.99))
    loss = ReverseDistillationLoss()

    def error_of(batch: Tensor) -> Tensor:
        known, rebuilt = model(batch)
        return loss([x.contiguous() for x in known], [x.contiguous() for x in rebuilt])

    model.train()
    with cached(model, "encoder", images) as cache:
        return model, descend(learned, images, cache, optimizer, error_of, 200, 16, budget)


def _supersimplenet(weights: Path, images: Tensor, budget: Budget) -> tuple[nn.Module, dict[str, Any]]:
    model = SupersimplenetModel(backbone=BACKBONE, layers=DEEP).to(images.device)
    _given_weights([model.feature_extractor.feature_extractor.feature_extractor], weights)
    groups = [
        {"params": model.adaptor.parameters(), "lr": 1e-4},
        {"params": model.segdec.parameters(), "lr": 2e-4, "weight_decay": 1e-5},
    ]
    learned = nn.ModuleList([model.adaptor, model.segdec]).to(memory_format=torch.channels_last)
    optimizer, loss = torch.optim.AdamW(groups), SSNLoss()
    first = [group["lr"] for group in optimizer.param_groups]

    def set_rates(share: float) -> None:
        for group, rate in zip(optimizer.param_groups, first, strict=True):
            group["lr"] = rate * 0.4 ** ((share >= 0.8) + (share >= 0.9))

    def error_of(batch: Tensor) -> Tensor:
        maps, scores, masks, labels = model(batch, None, batch.new_zeros(len(batch)))
        return loss(pred_map=maps, pred_score=scores, target_mask=masks, target_label=labels)

    model.train()
    on_cpu = functools.partial(generate_perlin_noise, device=torch.device("cpu"))  # dozens of tiny steps an image
    with (
        cached(model.feature_extractor, "feature_extractor", images) as cache,
        mock.patch.object(anomaly_generator, "generate_perlin_noise", on_cpu),
    ):
        return model, descend(learned, images, cache, optimizer, error_of, 300, 32, budget, set_rates)


RIVALS: dict[str, Callable[..., tuple[nn.Module, dict[str, Any]]]] = {
    "patchcore_0.01": functools.partial(_patchcore, 0.01),
    "patchcore_0.1": functools.partial(_patchcore, 0.1),
    "patchcore_all": functools.partial(_patchcore, 1.0),
    "mh_patchcore": _mh_patchcore,
    "padim": _padim,
    "dfm": _dfm,
    "fre": _fre,
    "stfpm": _stfpm,
    "reverse_distillation": _reverse_distillation,
    "supersimplenet": _supersimplenet,
}


def train_rival(
    name: str, weights: Path, images: Tensor, budget: Budget, seed: int, backbone: str = BACKBONE
) -> tuple[Rival, dict[str, Any]]:
    """Fit a rival on normalised images (N, 3, S, S), where they are; gradient-trained ones stop at epochs or the budget."""
    check_selections()
    torch.manual_seed(seed)
    np.random.seed(seed)  # anomalib's sparse projection draws from it
    create = functools.partial(_create_without_weights, timm.create_model, OWN.get(backbone, {}))
    with mock.patch.object(timm, "create_model", create):  # some ask for pretrained weights whatever one passes
        model, facts = RIVALS[name](weights, images, budget)
    return Rival(model, images.device).eval(), facts


def _create_without_weights(create: Any, own: dict[str, Any], name: str, **kwargs: Any) -> Any:
    """What `timm.create_model` gives, or with `own` arguments our own backbone in its place."""
    return create(**{"model_name": name, **kwargs, **own, "pretrained": False})
