"""Which posterior of the perception's last layer: `python benchmarks/posteriors.py`.

Three are fitted to the same trained network and the same cells of artificial anomalies: Laplace's approximation, as
`uranet train` has it; a variational last layer with a dense covariance (Harrison et al. 2024, the library `vbll`); and a
mean-field Gaussian whose deviations learn at a rate of their own, with a tempered divergence (Blundell et al. 2015). All are
calibrated alike, and read with and without the distance to good cells. Nothing is chosen on test images. Writes
docs/results/posteriors.json. Needs `pip install -e .[benchmarks]`.
"""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runs import commit, part, read_runs, run_missing, write_report
from sets import ROOT, data_folder
from torch import Tensor
from torch.nn import functional
from uncertainty import DATA, FOREIGN, detection, enlarged, masks_of, thinned
from uncertainty_measures import area_under_risk, auroc, reliability
from uncertainty_part import MAPS, Maps, Part, perceived

from ura_hf.data.files import write_json
from ura_hf.data.reader import read_dataset
from ura_hf.model.perception import NEIGHBOURHOOD, AnomalyPerception, PosteriorLinear
from ura_hf.training.posterior import calibration, hidden_cells, to_real_share
from ura_hf.training.randomness import seeded_generators

KEY = ("dataset", "seed", "steps")
STEPS, BATCH, RATE = 500, 512, 1e-2  # of what learns: Adam over cells
TEMPER, FIRST_DEVIATION = 0.1, 0.05  # of mean field: weight of the divergence, and deviation of a weight at first
Weights = tuple[Tensor, Tensor]  # means (D,) and a root of the covariance (D, D)


def _learn(loss: Callable[[Tensor, Tensor], Tensor], learnt: Any, x: Tensor, labels: Tensor) -> None:
    """Minimise a loss of cells x (n, D) and their labels (n,)."""
    optimizer = torch.optim.Adam(learnt, RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            rows = torch.randint(len(x), (BATCH,))
            optimizer.zero_grad()
            loss(x[rows], labels[rows]).backward()
            optimizer.step()


def mean_field(x: Tensor, labels: Tensor, trained: Tensor, counted: float, prior_std: float) -> Weights:
    """Independent Gaussians over the weights, from the trained ones (D,) on; `counted` cells stand beside the prior."""
    mean = trained.clone().requires_grad_()
    spread = torch.full_like(trained, np.log(FIRST_DEVIATION)).requires_grad_()

    def loss(some: Tensor, truth: Tensor) -> Tensor:
        deviation = (some.square() @ (2 * spread).exp()).sqrt()
        logits = some @ mean + deviation * torch.randn_like(deviation)
        ratio = ((2 * spread).exp() + mean.square()) / prior_std**2
        divergence = 0.5 * (ratio - 1 - 2 * spread + 2 * np.log(prior_std)).sum()
        return functional.binary_cross_entropy_with_logits(logits, truth) + TEMPER * divergence / counted

    _learn(loss, [mean, spread], x, labels)
    return mean.detach(), torch.diag(spread.detach().exp())


def variational(x: Tensor, labels: Tensor, trained: Tensor, counted: float, prior_std: float) -> Weights:
    """The difference of two classes' logits of `vbll.DiscClassification`."""
    from vbll import DiscClassification

    layer = DiscClassification(x.shape[1], 2, 1 / counted, "dense", prior_scale=prior_std**2 * x.shape[1] / 2)
    with torch.no_grad():
        layer.W_mean.copy_(torch.stack([-trained / 2, trained / 2]))
    learnt = [values for values in layer.parameters() if values.requires_grad]
    _learn(lambda some, truth: layer(some).train_loss_fn(truth.long()), learnt, x, labels)
    with torch.no_grad():
        roots = torch.tril(layer.W_offdiag, -1) + torch.diag_embed(layer.W_logdiag.exp())
        return (layer.W_mean[1] - layer.W_mean[0]), torch.linalg.cholesky((roots @ roots.mT).sum(0))


LEARNT = {"variational (vbll)": variational, "mean field": mean_field}


def posteriors(found: Part, net: AnomalyPerception) -> dict[str, AnomalyPerception]:
    """The network with every posterior; the first is the one that it has."""
    model, nets = found.model, {"Laplace": net}
    model.uranet.perception = net
    with seeded_generators(found.seed):
        cells, truth = hidden_cells(model, found.batches)
    x, labels = torch.from_numpy(cells).float(), torch.from_numpy(truth).float()
    counted = len(found.rows) * model.uranet.region.count / NEIGHBOURHOOD**2
    for name, fit in LEARNT.items():
        torch.manual_seed(found.seed)
        other = copy.deepcopy(net)
        head = other.head
        assert isinstance(head, PosteriorLinear)
        trained = torch.cat([head.weight[0], head.bias]).detach()
        weights, root = fit(x, labels, trained, counted, model.config.prior_std)
        slope, offset = calibration((x @ weights).double().numpy(), truth)
        with torch.no_grad():
            head.weight.copy_(weights[None, :-1])
            head.bias.copy_(weights[-1:])
            head.root.copy_(slope * root)
            head.calibration.copy_(torch.tensor([slope, offset + to_real_share(truth)]))
        nets[name] = other
    return nets


def run_one(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of every posterior, with and without distance."""
    found = Part(name, seed, options)
    nets, samples = posteriors(found, found.learn(seed)), found.dataset.test
    raw = found.features([sample.image for sample in samples], "test")
    labels = np.array([bool(sample.label) for sample in samples])
    masks, rows = masks_of(samples)
    truth, others = thinned(masks), []
    for other in (other for other in DATA if other != name):
        images = [s.image for s in read_dataset(data_folder(other, options.shared, 0)).test]
        others.append(found.features(images[:: max(1, len(images) // FOREIGN)][:FOREIGN], "other"))

    def figures(look: Callable[[np.ndarray], Maps]) -> dict[str, float]:
        maps, strange = look(raw), [look(shown)["epistemic"].mean((1, 2)).numpy() for shown in others]
        p, total = (thinned(enlarged(maps[kind])[rows]) for kind in MAPS[:2])
        sure, own = reliability(p, truth), maps["epistemic"].mean((1, 2)).numpy()
        return {
            **detection(maps, labels, masks, rows),
            "ece": sure["ece"],
            "brier": sure["brier"],
            "area": area_under_risk(((p > 0.5) != truth).astype(float), total),
            "other_parts": min(auroc(own, one) for one in strange),
        }

    def both(net: AnomalyPerception) -> dict[str, dict[str, float]]:
        alone = figures(lambda given: perceived([net], found.seen(given)))
        return {"with distance": figures(lambda given: found.believed(net, given)), "without distance": alone}

    return {"commit": commit(), "posteriors": {name: both(net) for name, net in nets.items()}}


def main() -> None:
    """Run what is missing, and write the results after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/, open/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/posteriors", help="features go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/posteriors.json")
    parser.add_argument("--sets", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=200, help="of a training (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--only", nargs=3, metavar=("SET", "SEED", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        name, seed, options.steps = options.only[0], *map(int, options.only[1:])
        key = (name, seed, options.steps)
        write_json(part(options.work, key), dict(zip(KEY, key, strict=True)) | run_one(name, seed, options))
        return
    wanted = [(name, seed, options.steps) for seed in options.seeds for name in options.sets]
    missing = [key for key in wanted if key not in read_runs(options.output, KEY)]

    def add(key: tuple[Any, ...], run: dict[str, Any]) -> None:
        found = read_runs(options.output, KEY) | {key: run}
        write_report(
            options.output, {"runs": [found[k] for k in sorted(found, key=lambda k: (DATA.index(k[0]), *k[1:]))]}
        )

    passed = ["--shared", options.shared, "--work", options.work]
    run_missing(__file__, missing, options.work, options.jobs, passed, add)


if __name__ == "__main__":
    main()
