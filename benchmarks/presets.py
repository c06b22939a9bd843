"""Size and arithmetic of both presets of `uranet benchmark`, computed on this machine: `python benchmarks/presets.py`.

Nothing is trained. One training step is run with one and with two images; what it keeps for the backward pass and its
floating-point operations are extrapolated to the batch. Writes docs/results/presets.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from runs import ROOT, commit, write_report
from torch.utils.flop_counter import FlopCounterMode

from ura_hf import URANetForAnomalyDetection
from ura_hf.benchmark.settings import PRESETS, Settings
from ura_hf.data.datasets import facts, published_counts
from ura_hf.training.objective import Learner
from ura_hf.training.options import MAX_IMAGES

PLACES = {
    "toothbrush, the smallest": [("mvtec", "toothbrush")],
    "hazelnut, the largest": [("mvtec", "hazelnut")],
    "all 15 of MVTec AD": [("mvtec", name) for name in facts()["mvtec"]["categories"]],
    "OCT-2017": [("oct2017", "oct2017")],
}
SUSTAINED = 4e12  # operations a second, half of what a T4 reaches at best in float32


def step(model: URANetForAnomalyDetection, count: int) -> tuple[int, int]:
    """Bytes kept for the backward pass, beside weights, and operations, forward and backward, of a step with `count` images."""
    config = model.config
    shape = (count, model.uranet.views.components, config.grid_size, config.grid_size)
    seen, textures = torch.randn(shape), torch.randn(shape)
    own = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = Learner(model)(seen, textures).loss
        loss.backward()
    inputs = seen.nbytes * 2 + seen.nbytes // 2  # both in float32, and the float16 batch as it is read
    return sum(kept.values()) + inputs, counter.get_total_flops()


def measure(preset: str) -> dict[str, Any]:
    """Figures of one preset."""
    settings = Settings("mvtec", "data/mvtec", preset)
    torch.manual_seed(0)
    model = URANetForAnomalyDetection(settings.model()).train()
    (bytes_1, flops_1), (bytes_2, flops_2) = step(model, 1), step(model, 2)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    weights = sum(value.nbytes for value in [*model.parameters(), *model.buffers()])
    batch = settings.options(Path("a"), Path("b"), 0, 100).batch_size
    activations = bytes_1 + (batch - 1) * (bytes_2 - bytes_1)
    flops = flops_1 + (batch - 1) * (flops_2 - flops_1)
    kept = model.backbone.channels + model.uranet.views.components
    features = 2 * kept * settings.model().grid_size ** 2
    runs = {}
    for title, places in PLACES.items():
        images = [published_counts(key, name)[0].train for key, name in places]
        steps = sum(settings.options(Path("a"), Path("b"), 0, count).steps for count in images)
        disk = min(max(images), MAX_IMAGES) * features
        minutes = steps * flops / SUSTAINED / 60
        runs[title] = {"steps": steps, "minutes_at_least": round(minutes, 1), "features_gb": round(disk / 1e9, 1)}
    return {
        "trained_parameters": trained,
        "weights_gib": round(weights / 2**30, 2),
        "batch_size": batch,
        "step_gib": round((weights + 12 * trained + activations) / 2**30, 2),
        "step_tflop": round(flops / 1e12, 3),
        "runs": runs,
    }


def main() -> None:
    """Compute both and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/presets.json")
    options = parser.parse_args()
    report = {
        "torch": torch.__version__,
        "seed": 0,
        "commit": commit(),
        "note": "computed, not measured on a GPU. Memory: float32 weights, their gradients and AdamW's moments, and everything a "
        "float32 step keeps, without the CUDA context. Minutes: the operations alone at 4 TFLOP/s, half of what a T4 reaches at "
        "best in float32, so a lower bound; features of the largest category, on disk while it trains.",
        "presets": {preset: measure(preset) for preset in PRESETS},
    }
    write_report(options.output, report)


if __name__ == "__main__":
    main()
