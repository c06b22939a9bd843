"""Fits what is normal to the good images, and calibrates the score by images that the views have not seen."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.progress import Progress, silent
from ..model.backbone import LARGEST
from ..model.configuration_uranet import LEARNT, PEAKS, URANetConfig
from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.region import Region
from ..model.restoration import to_tokens
from ..model.scoring import ordinary, positive
from ..model.views import NormalViews
from .batches import FeatureBatches
from .calibration import bound, curve, peak_standard, require_spread, standard
from .coreset import farthest_points
from .near_copies import firsts
from .report import most_unusual

MAX_AXES_CELLS = 20_000  # cells that axes and normal tokens are fitted to; of more, random ones of every image
MAX_MEMORY_VALUES = (
    2**26
)  # components of the cells that the memory is chosen from: all of 512 images, a quarter of a GiB
MAX_WHOLE_IMAGES = 1000  # images that the axes of whole images are fitted to
FOLDS, IMAGES_IN_FOLDS = 5, 500
"""Folds of the good images, each scored by views fitted to the others; of few images more, so that these miss fewer."""
IMAGES_PER_STEP = 16
NO_COPIES: Mapping[int, int] = MappingProxyType({})  # as `near_copies` has them
LIMIT = 0.3  # of the way from good images to textures: farther away is not the part


@torch.no_grad()
def fit_views(views: NormalViews, features_of: Callable[[list[int]], Tensor], rows: Sequence[int], seed: int) -> None:
    """Fit axes, memory, places and whole images to the standardised features (n, C, G, G) of rows, in the views' region."""
    shuffled: list[int] = np.random.default_rng(seed).permutation(np.asarray(rows)).tolist()
    region = views.region
    draw = torch.Generator().manual_seed(seed)
    steps = [shuffled[start : start + IMAGES_PER_STEP] for start in range(0, len(shuffled), IMAGES_PER_STEP)]
    few = max(1, MAX_AXES_CELLS // len(rows))
    many = max(1, MAX_MEMORY_VALUES // (views.components * len(rows)))
    views.set_axes(torch.cat([_some_cells(region.select(features_of(step)), few, draw) for step in steps]))
    images, candidates, device = [], [], views.axes.device
    total = torch.zeros(views.places.centre.shape, dtype=torch.float64)  # on the CPU: Apple's GPUs lack this type
    products = torch.zeros(views.places.whitener.shape, dtype=torch.float64)
    count = torch.zeros(len(total), 1, dtype=torch.float64)
    for number, step in enumerate(steps):
        components = views.project(features_of(step).to(device)).cpu()
        own = _some_cells(region.select(components), many, draw)
        candidates.append(own.clamp(-LARGEST, LARGEST).half())  # as a checkpoint holds them
        components = region.fill(components)
        if number * IMAGES_PER_STEP < MAX_WHOLE_IMAGES:
            images.append(views.images.coarse(components))
        own = views.places.split(components).double()
        total += own.sum(1)
        products += own.transpose(1, 2) @ own
        count += views.places.split(region.inside.expand(len(components), 1, -1, -1)).double().sum(1)
    views.places.set(count, total, products)
    views.images.set(torch.cat(images))
    cells = torch.cat(candidates).float()
    candidates.clear()
    views.memory.cells.copy_(cells[_covering(cells, len(views.memory.cells), seed)])
    views.round()


def _some_cells(images: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Cells (n, C) of images (B, C, G, G) or (B, C, cells): all, or of more than `count` of an image random ones."""
    cells = images.flatten(2).transpose(1, 2)
    kept = [one if len(one) <= count else one[torch.randperm(len(one), generator=draw)[:count]] for one in cells]
    return torch.cat(kept)


def _covering(points: Tensor, count: int, seed: int) -> Tensor:
    """Indices (count,) of points (N, D) that cover them; a set of fewer points is repeated."""
    if len(points) <= count:
        return torch.arange(count) % len(points)
    first = int(torch.randint(len(points), (1,), generator=torch.Generator().manual_seed(seed)))
    return farthest_points(points, count, first)


@torch.no_grad()
def fill_tokens(model: URANetForAnomalyDetection, batches: FeatureBatches, seed: int) -> None:
    """Give restoration the normal tokens that it attends to, which cover those of the good images."""
    uranet = model.uranet
    store, patch = uranet.restoration.memory, uranet.restoration.patch_size
    if not len(store):
        return
    tokens, inside = [], uranet.region.indices(patch)
    draw, kept = torch.Generator().manual_seed(seed), max(1, MAX_AXES_CELLS // 4 // len(batches.rows))
    for row in batches.rows:
        own = to_tokens(batches.components_of([row]), patch)[0][inside]
        tokens.append(own[torch.randperm(len(own), generator=draw)[:kept]])
    found = torch.cat(tokens)
    store.copy_(found[_covering(found, len(store), seed)])


Logs = dict[str, Tensor]


class Measured(NamedTuple):
    """Scores of good images by views that have not seen them, (N,), and the maps of the `most_unusual` ones, (S, S) each.

    Both before they are made positive. Images that show what another one shows are left out; `rows` are those of the others.
    """

    rows: list[int]
    scores: Tensor
    maps: list[Tensor]


@torch.no_grad()
def calibrate_score(
    model: URANetForAnomalyDetection,
    batches: FeatureBatches,
    images: int,
    seed: int,
    progress: Progress = silent,
    copies: Mapping[int, int] = NO_COPIES,
) -> Measured:
    """Measure standards, thresholds and strangeness on all good images, each unseen by the views that score it here.

    Networks, and the model's own views, hold all images. `images` is their number without turned copies, which are the rows after
    them. `copies` are those that show what another one shows (`near_copies`): they count for nothing here. The thresholds are
    those of the image score and of the map's largest value, so the configured false-positive rate is the share of good images
    that are called anomalous, and of those that glow anywhere. Returns what it measured.

    Raises:
        UserError: The scores hardly differ.
    """
    model.eval()
    config, uranet = model.config, model.uranet
    config.standards = config.image_threshold = config.pixel_threshold = None
    config.false_alarms = config.strangeness = None
    logs = unseen(model, batches, images, seed, progress, copies)
    rows = [row for row in range(images) if row not in copies]
    config.standards = (config.standards or {}) | _standards(logs, uranet.region)  # `unseen` may have set memory's
    found: list[dict[str, Tensor]] = []
    for at in range(0, len(rows), IMAGES_PER_STEP):  # whose full-size maps are not kept
        z, step = uranet.add_up({name: values[at : at + IMAGES_PER_STEP] for name, values in logs.items()})
        found.append({**step, "highest": z.amax((1, 2))})
    parts = {name: torch.cat([step[name] for step in found]) for name in found[0]}
    highest = parts.pop("highest")
    config.standards |= {name: peak_standard(values) for name, values in parts.items() if name in PEAKS}
    scores = uranet.score(parts)
    require_spread(scores)
    set_thresholds(config, scores, highest)
    config.strangeness = _strangeness(model, batches, logs)
    unusual = [{name: values[row : row + 1] for name, values in logs.items()} for row in most_unusual(scores)]
    return Measured(rows, scores, [uranet.add_up(one)[0][0] for one in unusual])


def _standards(logs: dict[str, Tensor], region: Region) -> dict[str, list[float]]:
    """`standard` of each view, over the cells that count."""
    return {name: standard(region.select(log) if log.dim() == 4 else log) for name, log in logs.items()}


def set_thresholds(config: URANetConfig, scores: Tensor, highest: Tensor) -> None:
    """Set both thresholds and the curve of false alarms from unseen good images: their scores, and their maps' largest values.

    Both (N,), before they are made positive.
    """
    pairs = [(rate, _positive(score)) for rate, score in curve(scores, config.false_positive_rate)]
    config.false_alarms = [list(pair) for pair in pairs]
    config.image_threshold = dict(pairs)[config.false_positive_rate]
    config.pixel_threshold = _positive(bound(highest, config.false_positive_rate))


def _positive(z: float) -> float:
    return float(positive(torch.tensor(z, dtype=torch.float64)))


def _strangeness(
    model: URANetForAnomalyDetection, batches: FeatureBatches, good: dict[str, Tensor]
) -> list[float] | None:
    """What good images have, and the limit: some way towards what textures have, which stand for all that is not the part."""
    if batches.strangers is None or "memory" not in good:
        return None
    region = model.uranet.region
    usual, found = float(ordinary(good["memory"], region).median()), []
    for start in range(0, len(batches.strangers), IMAGES_PER_STEP):
        raw = torch.from_numpy(batches.strangers[start : start + IMAGES_PER_STEP].copy())
        features = batches.standardize(raw).to(model.device)
        found.append(ordinary(model.uranet.look(features)["memory"], region).cpu())
    strange = float(torch.cat(found).median())
    limit = math.log((1 - LIMIT) * math.exp(usual) + LIMIT * math.exp(strange))
    return [usual, limit] if limit > usual else None


@torch.no_grad()
def unseen(
    model: URANetForAnomalyDetection,
    batches: FeatureBatches,
    images: int,
    seed: int,
    progress: Progress = silent,
    copies: Mapping[int, int] = NO_COPIES,
) -> dict[str, Tensor]:
    """What `URANetModel.look` gives for the good images, each by views that are fitted to the other folds; on the CPU.

    Networks have seen them all; the view `restored` looks at every fold twice. Rows of `copies` are left out, and lie in the
    fold of the image that they show again. What networks say depends on the standard of `memory`, which is then measured first,
    and stays in the config.
    """
    shown, config, names = firsts(images, copies), model.config, model.config.all_views
    rows = np.random.default_rng(seed).permutation([row for row in range(images) if row not in copies])
    learnt = {*names} & {*LEARNT}
    first = [name for name in names if name not in learnt] + ["memory"] * (bool(learnt) and "memory" not in names)
    folds: list[tuple[list[int], NormalViews | None]] = []
    found: list[Logs] = []
    for fold in np.array_split(rows, min(max(FOLDS, IMAGES_IN_FOLDS // len(rows)), len(rows))):
        apart, done = set(fold.tolist()), sum(len(one) for one, _ in folds)
        views = copy.deepcopy(model.uranet.views)
        fit_views(views, batches.features_of, [row for row in batches.rows if shown[row % images] not in apart], seed)
        begins = partial(_told, progress, done, len(rows))
        found.append(_look(model, batches, fold.tolist(), views, first, begins))
        folds.append((fold.tolist(), views if "restored" in learnt else None))
    order = [row for fold, _ in folds for row in fold]
    back = torch.tensor(order).argsort()
    logs = {name: values[back] for name, values in _joined(found).items()}
    if learnt:
        config.standards = (config.standards or {}) | _standards({"memory": logs["memory"]}, model.uranet.region)
    if "restored" in learnt:
        logs = _joined([_look(model, batches, fold, views, names) for fold, views in folds if views is not None])
        logs = {name: values[back] for name, values in logs.items()}
    elif learnt:
        logs["perceived"] = _perceived(model, batches, sorted(order), logs["memory"])
    return {name: logs[name] for name in names}


def _told(progress: Progress, before: int, total: int, at: int) -> None:
    progress("calibration", before + at, total)


def _look(
    model: URANetForAnomalyDetection,
    batches: FeatureBatches,
    rows: list[int],
    views: NormalViews,
    names: Sequence[str],
    begins: Callable[[int], None] = lambda _: None,
) -> Logs:
    """What `URANetModel.look` gives of some views for good images, by these views; `begins` is called before each step."""
    found = []
    for at in range(0, len(rows), IMAGES_PER_STEP):
        begins(at)
        features = batches.features_of(rows[at : at + IMAGES_PER_STEP]).to(model.device)
        found.append({name: value.cpu() for name, value in model.uranet.look(features, views, names).items()})
    return _joined(found)


def _perceived(model: URANetForAnomalyDetection, batches: FeatureBatches, rows: list[int], memory: Tensor) -> Tensor:
    """The log of the view `perceived` for good images, given that of `memory`, (N, 1, G, G) -> same; on the CPU."""
    uranet, found = model.uranet, []
    for at in range(0, len(rows), IMAGES_PER_STEP):
        features = batches.features_of(rows[at : at + IMAGES_PER_STEP]).to(model.device)
        near = memory[at : at + IMAGES_PER_STEP].to(model.device)
        found.append(uranet.log(uranet.believe(uranet.views.project(features), near).odds).cpu())
    return torch.cat(found)


def _joined(steps: Sequence[Logs]) -> Logs:
    return {name: torch.cat([step[name] for step in steps]) for name in steps[0]}
