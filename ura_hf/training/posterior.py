"""The posterior over the perception's last layer: Laplace's approximation, once at the end of training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.perception import NEIGHBOURHOOD, PosteriorLinear
from .batches import FeatureBatches
from .randomness import seeded_generators
from .synthesis import synthesize

ALTERED_IMAGES, PER_STEP = (
    96,
    8,
)  # images with artificial anomalies that the posterior is fitted to, and so many at once
DEFECT_SHARE = 0.01  # of the cells of real images, which artificial anomalies cover more of
Values = NDArray[np.float64]


@torch.no_grad()
def fit_posterior(model: URANetForAnomalyDetection, batches: FeatureBatches, images: int, seed: int) -> None:
    """Calibrate the trained logits, and set the spread of the last layer's weights to the posterior's.

    Slope and offset of the logit (Platt 1999) are fitted to artificial anomalies, and the offset is corrected for the share of
    defects in real images (King and Zeng 2001). The last layer is a logistic regression, whose posterior is nearly Gaussian
    (Laplace's approximation, MacKay 1992) with the precision c sum_i p_i (1 - p_i) x_i x_i^T + I / prior_std^2 over cells x_i of
    artificial anomalies in the region of interest. The factor c makes each of `images` different good images count once, however
    many anomalies are made from it, and the cells of a neighbourhood as one, since they look alike.
    """
    head = model.uranet.perception.head
    if not isinstance(head, PosteriorLinear):
        return
    model.eval()
    with seeded_generators(seed):
        x, labels = hidden_cells(model, batches)
    weights = torch.cat([head.weight[0], head.bias]).double().cpu().numpy()
    logits = x @ weights
    slope, offset = calibration(logits, labels)
    p = special.expit(slope * logits + offset)
    counted = images * model.uranet.region.count / NEIGHBOURHOOD**2
    lower = np.linalg.cholesky(precision(x, p, counted / len(x), model.config.prior_std))
    head.root.copy_(torch.from_numpy(np.linalg.inv(lower).T.copy()))  # A = L L^T, so A^-1 = R R^T with R = L^-T
    head.calibration.copy_(torch.tensor([slope, offset + to_real_share(labels)]))


def calibration(logits: Values, labels: Values) -> tuple[float, float]:
    """Slope and offset of sigmoid(slope z + offset), from z (N,) and labels (N,), 0 or 1; 1 and 0 if all labels are alike."""
    from sklearn.linear_model import LogisticRegression  # of the extra `train`

    if not 0 < labels.mean() < 1:
        return 1.0, 0.0
    fitted = LogisticRegression(C=1e4).fit(logits[:, None], labels)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def to_real_share(labels: Values) -> float:
    """What is added to log-odds of anomalies as frequent as in labels (N,), so that they hold for `DEFECT_SHARE` of the cells."""
    share = np.clip(labels.mean(), DEFECT_SHARE, 1 - DEFECT_SHARE)
    return float(special.logit(DEFECT_SHARE) - special.logit(share))


def precision(x: Values, p: Values, weight: float, prior_std: float) -> Values:
    """weight sum_i p_i (1 - p_i) x_i x_i^T + I / prior_std^2 of observations x (N, D) with probabilities p (N,): (D, D)."""
    return np.asarray(weight * (x.T * (p * (1 - p))) @ x + np.eye(x.shape[1]) / prior_std**2)


def hidden_cells(model: URANetForAnomalyDetection, batches: FeatureBatches) -> tuple[Values, Values]:
    """What the last layer sees of artificial anomalies, with a 1 behind it, (N, width + 1), and their masks, (N,)."""
    uranet, config, region = model.uranet, model.config, model.uranet.region
    rows = torch.randint(len(batches.rows), (ALTERED_IMAGES,))
    cells, labels = [], []
    for step in rows.split(PER_STEP):
        seen = batches.components_of([batches.rows[row] for row in step.tolist()]).to(model.device)
        textures = batches.draw_textures(len(step))
        photos = None if textures is None else textures.to(model.device)
        altered, mask = synthesize(seen, photos, config.source_weights, config.mask_weights, config.max_blend)
        if not region.is_whole:  # nothing was learnt of what lies beyond
            altered = torch.where(region.outside(config.grid_size, seen.device), seen, altered)
        cells.append(uranet.perception.hide(altered).cpu()[:, region.inside].flatten(0, 1))
        labels.append(mask.cpu()[:, 0, region.inside].flatten())
    x = torch.cat(cells).double()
    return torch.cat([x, x.new_ones(len(x), 1)], 1).numpy(), torch.cat(labels).double().numpy()
