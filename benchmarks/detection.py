"""URA-Net on a data set of the benchmarks: `uranet train` and `uranet evaluate`, the package's defaults but for the backbone.

And where the weights of the backbone come from, the same for all models.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from sets import data_folder

from ura_hf.model.backbone import SMALL, Backbone
from ura_hf.model.errors import UserError
from ura_hf.training.imagenet import load_imagenet, own_weights

WEIGHTS = "backbones/resnet18_in1k_stages1-3.safetensors"
RESNET = "resnet18"
BACKBONES = (RESNET, SMALL)


def weights_of(backbone: str, shared: Path, work: Path) -> Path:
    """File of the weights: the package's own of `uranet-small`, those in `shared`, else from the Hub, kept in `work`.

    Raises:
        UserError: The Hub can't be reached.
    """
    given, fetched = own_weights(backbone) or shared / WEIGHTS, work / f"{backbone}.safetensors"
    if given.exists():
        return given
    if not fetched.exists():
        network = Backbone(backbone, (1, 2, 3), grid_size=8)
        load_imagenet(network)
        work.mkdir(parents=True, exist_ok=True)
        save_file(network.cnn.state_dict(), partial := fetched.with_suffix(".partial"))
        partial.rename(fetched)
    return fetched


def require_backbone(options: argparse.Namespace) -> None:
    """Stop where the results are of another backbone; other ones than the ResNet-18 work in a folder of their own."""
    made = options.backbone
    if options.output.exists():
        made = json.loads(options.output.read_text()).get("backbone", RESNET)
    if made != options.backbone:
        sys.exit(f"{options.output} holds runs with {made}: pass another file as --output, or --backbone {made}.")
    if options.backbone != RESNET:
        options.work /= options.backbone


def require_weights(options: argparse.Namespace) -> None:
    """Stop with one sentence where the weights can't be had."""
    try:
        weights_of(options.backbone, options.shared, options.work)
    except UserError:
        sys.exit(
            f"the weights of {options.backbone} are not in {options.shared}, and the Hugging Face Hub does not give them: check "
            f"the network, or take --backbone {SMALL}, which is in the package."
        )


def run(name: str, seed: int, shared: Path, work: Path, extra: list[str], backbone: str = RESNET) -> dict[str, Any]:
    """One training and its evaluation; results of an earlier call are used again."""
    output = work / f"{name}-{seed}"
    result = work / f"{name}-{seed}.json"
    uranet = [sys.executable, "-m", "ura_hf"]
    data = ["--data", str(data_folder(name, shared, seed))]
    if not (output / "training.json").exists():
        weights = weights_of(backbone, shared, work)
        options = ["--backbone", backbone, "--backbone-weights", str(weights), "--seed", str(seed)]
        subprocess.run([*uranet, "train", *data, "--output", str(output), *options, *extra], check=True)
    if not result.exists():
        subprocess.run([*uranet, "evaluate", str(output), *data, "--json", str(result)], check=True)
    training = json.loads((output / "training.json").read_text())
    kept = (
        "command",
        "images",
        "pose",
        "seconds",
        "cpu_seconds",
        "peak_memory_gib",
        "peak_gpu_memory_gib",
        "data_wait_share",
        "hardware",
        "precision",
        "versions",
        "date",
    )
    return {**json.loads(result.read_text()), "dataset": name, "seed": seed, "training": {k: training[k] for k in kept}}
