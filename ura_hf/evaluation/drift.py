"""Tells from scores in the order of time when good parts begin to look different.

A conformal test martingale (Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2nd ed. 2022, part III). As
long as the scores could have come in any order, it stays below 1/c for ever with a probability of at least 1 - c, whatever their
distribution (Ville's inequality), so an alarm at 100 is false in at most one of a hundred lines.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.folder import natural_key
from ..model.errors import UserError

ALARM = 100.0
"""Evidence from which on the order is taken to matter."""
BETS = (-1.0, 0.0, 1.0)  # on high, on no and on low scores
JUMP = 0.01  # share of the stake that moves to the other bets after every image
MOST = 690.0  # natural logarithm of the evidence, beyond which numbers end
FEWEST = 20  # scores that tell anything
SCORES = ("image_score", "score")  # columns of a table, the first that is there
NAMES = ("file", "image")


@dataclass(frozen=True)
class Drift:
    """What the order of some scores tells.

    Args:
        evidence: The martingale's value after every score, (N,), > 0; 1 says nothing, `ALARM` a change.
        alarm: Index of the score at which it first was that large; None: never.
        began: Index from which on scores differ, by the largest difference of mean ranks before and after; None without alarm.
    """

    evidence: NDArray[np.float64]
    alarm: int | None
    began: int | None


def drift(scores: Sequence[float], seed: int = 0) -> Drift:
    """Test whether scores (N,) in the order of time could have come in any order.

    Every score gets its rank among those before it as a p-value, p_n = (#{s_i > s_n} + u_n #{s_i = s_n}) / n over i <= n with u_n
    uniform from `seed`; the Simple Jumper bets against their being uniform with f(p) = 1 + b (p - 1/2).

    Raises:
        UserError: There are fewer than `FEWEST`, or one is no finite number.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) < FEWEST:
        raise UserError(f"at least {FEWEST} scores tell something of a change, but got {len(values)}: give more.")
    if count := int((~np.isfinite(values)).sum()):
        raise UserError(f"scores must be finite numbers, but {count} of {len(values)} are none: leave them out.")
    uniform = np.random.default_rng(seed).random(len(values))
    stakes, evidence = np.full(len(BETS), 1 / len(BETS)), np.empty(len(values))
    log_capital = 0.0
    for n, value in enumerate(values):
        seen = values[: n + 1]
        p = ((seen > value).sum() + uniform[n] * (seen == value).sum()) / (n + 1)
        stakes = (1 - JUMP) * stakes + JUMP / len(BETS)
        stakes *= 1 + np.asarray(BETS) * (p - 0.5)
        log_capital += np.log(stakes.sum())
        stakes /= stakes.sum()
        evidence[n] = log_capital
    above = np.flatnonzero(evidence >= np.log(ALARM))
    alarm = int(above[0]) if len(above) else None
    return Drift(np.exp(evidence.clip(max=MOST)), alarm, None if alarm is None else _largest_step(values[: alarm + 1]))


def _largest_step(values: NDArray[np.float64]) -> int:
    """Index that splits the values into two parts whose mean ranks differ most, in standard errors."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    values = (counts.cumsum() - (counts - 1) / 2)[places]  # ranks, equal ones of equal values
    count = np.arange(1, len(values))
    before = values.cumsum()[:-1]
    means = before / count, (values.sum() - before) / (len(values) - count)
    weight = np.sqrt(count * (len(values) - count) / len(values))
    return int(np.abs((means[1] - means[0]) * weight).argmax()) + 1


def read_scores(path: Path) -> tuple[list[str], list[float], list[str]]:
    """Names, scores and labels of a table such as the batch tab and `uranet predict` write, in the order of its images' names.

    Without a column `file` or `image` in the order of the rows. Rows without a score are left out.

    Raises:
        UserError: It can't be read, or has no column of scores.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read as a table ({error}): give a CSV file with a column score.") from error
    column = next((name for name in SCORES if name in columns), None)
    if column is None:
        raise UserError(
            f"{path} has no column {' or '.join(SCORES)}: give the CSV file of the batch tab, or a folder of images."
        )
    kept = [row for row in rows if row[column]]
    name = next((name for name in NAMES if name in columns), None)
    if name is not None:
        kept.sort(key=lambda row: natural_key(row[name] or ""))
    try:
        scores = [float(row[column]) for row in kept]
    except ValueError as error:
        raise UserError(f"{path}: {error} in column {column}: give numbers.") from error
    names = [(name and row[name]) or str(index + 1) for index, row in enumerate(kept)]
    return names, scores, [row.get("label") or "" for row in kept]
