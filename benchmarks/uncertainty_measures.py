"""Measures of probabilities and uncertainties, for `uncertainty.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special, stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

Values = NDArray[Any]
BINS = 15
EDGE = 5  # pixels of 256 from a defect's edge


def logit(p: Values) -> Values:
    """Log-odds of probabilities in [0, 1], within 16 of 0."""
    return np.asarray(special.logit(np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)))


def calibrator(p: Values, labels: Values) -> tuple[float, float]:
    """Slope a and offset b of p' = sigmoid(a logit(p) + b) (Platt 1999), from probabilities (N,) and labels (N,)."""
    model = LogisticRegression(C=1e4).fit(logit(p)[:, None], labels)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def calibrated(p: Values, scale: tuple[float, float]) -> Values:
    """sigmoid(a logit(p) + b)."""
    return np.asarray(special.expit(scale[0] * logit(p) + scale[1]))


def reliability(p: Values, labels: Values) -> dict[str, Any]:
    """Expected calibration error over `BINS` even bins, Brier score, and each bin's share, mean probability and defect rate."""
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    shown = []
    for index in range(BINS):
        inside = place == index
        if inside.any():
            shown.append([float(inside.mean()), float(p[inside].mean()), float(labels[inside].mean())])
    return {
        "ece": sum(share * abs(mean - rate) for share, mean, rate in shown),
        "brier": float(np.square(p - labels).mean()),
        "bins": [[round(value, 5) for value in row] for row in shown],
    }


def area_under_risk(errors: Values, uncertainty: Values) -> float:
    """Mean error rate of the most certain k of N decisions over k = 1 ... N; errors and uncertainty (N,)."""
    order = np.argsort(uncertainty, kind="stable")
    return float((np.cumsum(errors[order]) / np.arange(1, len(errors) + 1)).mean())


def risk_curve(errors: Values, uncertainty: Values, points: int = 20) -> list[float]:
    """Error rate of the most certain 1/points, 2/points, ... of N decisions; errors and uncertainty (N,) -> (points,)."""
    risks = np.cumsum(errors[np.argsort(uncertainty, kind="stable")]) / np.arange(1, len(errors) + 1)
    at = np.ceil(np.arange(1, points + 1) * len(errors) / points).astype(int) - 1
    return [round(float(value), 5) for value in risks[at]]


def ranks_added(first: Values, second: Values) -> Values:
    """Sum of the ranks that N things have by two values, (N,) each."""
    return np.asarray(stats.rankdata(first) + stats.rankdata(second))


def region_figures(shown: Values, limit: float, masks: Values, maps: dict[str, Values]) -> dict[str, list[list[float]]]:
    """Peak, and mean of each map (N, H, W), of every region where `shown` (N, H, W) exceeds `limit`.

    Those that touch a defect (N, H, W) are under "true", the others under "false".
    """
    found: dict[str, list[list[float]]] = {"true": [], "false": []}
    for row, mask in enumerate(masks):
        places, count = ndimage.label(shown[row] > limit, structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            inside = places == number
            values = [shown[row][inside].max(), *(one[row][inside].mean() for one in maps.values())]
            found["true" if mask[inside].any() else "false"].append([float(value) for value in values])
    return found


def edge_share(uncertainty: Values, masks: Values) -> float:
    """Share of the uncertainty (N, H, W) near edges of the defects (N, H, W), over the share of these pixels: 1 is chance."""
    found, area = 0.0, 0.0
    for one, mask in zip(uncertainty, masks, strict=True):
        if mask.any() and one.sum() > 0:
            near = ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask) <= EDGE
            found, area = found + float(one[near].sum() / one.sum()), area + float(near.mean())
    return found / area


def auroc(negative: Values, positive: Values) -> float:
    """How well higher values tell the second from the first, (N,) each."""
    labels = np.repeat([0, 1], [len(negative), len(positive)])
    return float(roc_auc_score(labels, np.concatenate([negative, positive])))
