"""What the page keeps of one image, so that threshold, pictures and downloads need no second inference."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..evaluation.regions import Region, find_regions
from ..evaluation.visualization import Pixels, fit_within, fraction_above, pca_colors, to_pixels
from ..inference import Unreadable, find
from ..model.errors import UserError
from ..model.frames import frames
from ..model.image_processing_uranet import DRAWN, MAPS, URANetImageProcessor
from ..model.pipeline_uranet import URANetPipeline
from ..model.verdicts import THRESHOLD, label, limits, rate_of
from .shared import still_there
from .store import Detectors

PICTURE_SIDES = (1024, 640)  # longest and shortest that the longer side of a picture gets on the page, pixels
MOST_REGIONS = 100  # that are listed
KEPT = 200  # analyses on disk, of a few megabytes each


class View(NamedTuple):
    """How a visitor looks at an analysis: threshold, opacity of the glow, share of good parts to review, None: as configured."""

    threshold: float = THRESHOLD
    strength: float = 0.85
    max_review: float | None = None


@dataclass(frozen=True)
class Analysis:
    """One image as one checkpoint sees it. Maps are float32 (S, S), in the geometry of the network's input."""

    about: dict[str, Any]
    """`checkpoint`, `file`, `image_size` as [height, width], `score`, raw `image_score`, `image_threshold` and `pixel_threshold`,
    `rank`, `rank_words`, `strangeness`, `device`, `milliseconds`; `processor`, the fields of the image processor, and `rates`,
    the fields of the config that `limits` asks; `decoded`, whether the features are pictures."""
    picture: Pixels
    """The image, RGB (h, w, 3), its longer side from 640 to 1024 pixels."""
    features: Pixels
    """Input features as a picture, RGB (P, P, 3), or without a decoder in PCA colours, RGB (G, G, 3)."""
    restored: Pixels
    """Restored features likewise: the part as it should look, or the same colours."""
    maps: dict[str, NDArray[np.float32]]

    def map(self, name: str, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """A map of the pipeline by name in the geometry of the image, (H, W) = `size`, by default that of `picture`."""
        processor = URANetImageProcessor.from_dict(self.about["processor"])
        size = size or self.picture.shape[:2]  # type: ignore[assignment]
        return processor.restore_geometry(torch.from_numpy(self.maps[name])[None], [size])[0].numpy()  # type: ignore[list-item]

    def drawn(self, picture: Pixels) -> Pixels:
        """`features` or `restored`, where they are pictures, in the geometry of `picture`."""
        processor = URANetImageProcessor.from_dict(self.about["processor"])
        planes = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
        return to_pixels(processor.restore_pictures(planes, [self.picture.shape[:2]])[0].numpy())  # type: ignore[list-item]

    def regions(self, threshold: float) -> tuple[list[Region], NDArray[np.int32]]:
        """As `find_regions` on the maps at the size of `picture`; boxes and areas in pixels of the image that came in."""
        maps = self.map("score_map"), self.map("total_uncertainty")
        return find_regions(*maps, threshold, tuple(self.about["image_size"]))  # type: ignore[arg-type]

    @property
    def rates(self) -> tuple[float, float] | None:
        """The largest and the smallest share of good parts that the checkpoint's photos tell something of; None of none."""
        curve = self.about["rates"]["false_alarms"]
        return None if curve is None else (curve[0][0], curve[-1][0])

    def threshold_of(self, share: float) -> float:
        """The threshold above which a share of good parts lies, of a checkpoint that tells; beyond `rates` that of their ends."""
        assert self.rates is not None
        high, low = self.rates
        return self.limits(max_false_alarms=min(max(share, low), high))[0]

    def limits(self, threshold: float | None = None, **rates: float | None) -> tuple[float, float]:
        """As `verdicts.limits` with the config of the checkpoint."""
        return limits(SimpleNamespace(**self.about["rates"]), threshold, **rates)

    def share_above(self, threshold: float) -> float | None:
        """The share of good parts above a threshold, within `rates`; None where the checkpoint does not tell."""
        if self.rates is None:
            return None
        raw = torch.tensor([self.about["rates"]["image_threshold"] * threshold / (1 - threshold)], dtype=torch.float64)
        return float(rate_of(raw, self.about["rates"]["false_alarms"])[0])

    def summary(self, threshold: float = THRESHOLD, max_review: float | None = None) -> dict[str, Any]:
        """The result as JSON; `max_review`: share of good parts that may be called review, None: as configured.

        `label`, one of `LABELS`; `score` against `threshold` and `review`, on the fixed 0-1 scale; `rank` and `rank_words`: 1 of
        so many good images scores as high; `strangeness`: above 1 not the part at all; `regions` with `box` [left, top, width,
        height] and `area` in pixels, `peak_score`, mean `uncertainty` in nats; `anomalous_fraction` of the pixels;
        `image_score`, `image_threshold` and `pixel_threshold` raw; `image_size` [height, width]; `device`; `milliseconds` of
        the inference.
        """
        about = {key: value for key, value in self.about.items() if key not in ("processor", "rates", "decoded")}
        threshold, review = self.limits(threshold, max_review=max_review)
        score_map = self.map("score_map")
        regions, _ = self.regions(threshold)
        return {
            "label": label(about["score"], about["strangeness"], threshold, review),
            "threshold": threshold,
            "review": review,
            "anomalous_fraction": fraction_above(score_map, threshold),
            "regions": [asdict(region) for region in regions[:MOST_REGIONS]],
            **about,
        }


def analyse(detector: URANetPipeline, path: str, checkpoint: str) -> Analysis:
    """Predict the image in a file with the detector of a checkpoint.

    Raises:
        UserError: The file is not an image that can be read, or the model gives no number for it.
    """
    if (count := len(frames(path))) > 1:
        raise UserError(f"{Path(path).name} holds {count} images: check them in the Batch tab, which looks at each.")
    decoded = bool(detector.model.config.cell_pixels)
    fields = (*MAPS, *(DRAWN if decoded else ("features", "restored_features")))
    (one,) = find(detector, [path], keep=lambda image: fit_within(image, *PICTURE_SIDES), fields=fields)
    if isinstance(one, Unreadable):
        raise one.error
    verdict = one.verdict()
    assert one.picture is not None
    features, restored = (one.output[name][0].float().numpy() for name in fields[-2:])
    if decoded:
        pictures = to_pixels(features.transpose(1, 2, 0)), to_pixels(restored.transpose(1, 2, 0))
    else:
        pictures = pca_colors(features, restored)
    about = {
        "checkpoint": checkpoint,
        "file": Path(path).name,
        "image_size": list(one.size),
        **{name: verdict[name] for name in ("score", "rank", "rank_words", "image_score", *one.thresholds)},
        "strangeness": float(one.output["strangeness"][0]) if "strangeness" in one.output else None,
        "device": _device(detector.device),
        "milliseconds": round(1000 * one.seconds, 1),
        "rates": {name: getattr(one.config, name) for name in ("image_threshold", "false_alarms", "max_review")},
        "decoded": decoded,
        "processor": json.loads(detector.image_processor.to_json_string()),
    }
    maps = {name: one.output[name][0].float().numpy() for name in MAPS}
    return Analysis(about, to_pixels(one.picture), *pictures, maps)


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, half precision"
    if device.type == "mps":
        return "Apple GPU"
    return f"CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


class SharedSet(set[str]):
    """A set that others may add to while somebody iterates over it."""

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(super().__iter__()))


class Shelf:
    """Analyses on disk under the digest of image and checkpoint; the oldest leave when there are more than `kept`.

    The same image and checkpoint give the same maps, so the maps of an image, an example above all, are computed once.
    """

    def __init__(
        self,
        folder: Path,
        store: Detectors,
        infer: Callable[[str, str, str | None], Analysis],
        kept: int = KEPT,
    ) -> None:
        self.folder, self.store, self.infer, self.kept = folder, store, infer, kept
        self.files = SharedSet()
        """Paths of the files, for Gradio's own removal of what is old."""
        self._lock = threading.Lock()

    def predict(self, image: str, checkpoint: str, session: str | None = None) -> tuple[str, Analysis]:
        """The key and the analysis of an uploaded file with a checkpoint that the session knows, computed unless it is here.

        Raises:
            UserError: The session knows no such checkpoint, or the image can't be read or is no longer there.
        """
        (path,) = still_there([image])
        digest = hashlib.sha256(f"{checkpoint}\n{self.store.folder(checkpoint, session)}\n{path.name}\n".encode())
        digest.update(path.read_bytes())
        key = digest.hexdigest()[:32]
        if (known := self.find(key)) is not None:
            with suppress(FileNotFoundError):
                os.utime(self.folder / f"{key}.npz")  # its age counts from here
            return key, known
        self.store.get(checkpoint, session)  # a process of ZeroGPU inherits what is loaded here
        analysis = self.infer(image, checkpoint, session)
        self._keep(key, analysis)
        return key, analysis

    def get(self, key: str | None) -> Analysis:
        """The analysis under a key.

        Raises:
            UserError: It was removed.
        """
        analysis = self.find(key) if key else None
        if analysis is None:
            raise UserError("The result of this image is no longer kept: check the image again.")
        return analysis

    def find(self, key: str) -> Analysis | None:
        """The analysis under a key, None where there is none."""
        try:
            with np.load(self.folder / f"{key}.npz", allow_pickle=False) as file:
                picture = np.asarray(Image.open(io.BytesIO(file["picture"].tobytes())))
                maps = dict(zip(MAPS, file["maps"], strict=True))
                return Analysis(json.loads(str(file["about"])), picture, file["features"], file["restored"], maps)
        except FileNotFoundError:
            return None

    def _keep(self, key: str, analysis: Analysis) -> None:
        picture = io.BytesIO()
        Image.fromarray(analysis.picture).save(picture, "PNG", compress_level=1)
        path = self.folder / f"{key}.npz"
        unfinished = path.with_suffix(f".{threading.get_ident()}.tmp")
        with unfinished.open("wb") as stream:
            np.savez(
                stream,
                about=json.dumps(analysis.about),
                picture=np.frombuffer(picture.getvalue(), np.uint8),
                features=analysis.features,
                restored=analysis.restored,
                maps=np.stack([analysis.maps[name] for name in MAPS]),
            )
        os.replace(unfinished, path)
        with self._lock:
            self.files.add(str(path))
            kept = sorted(self.folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)
            for old in kept[: -self.kept]:
                old.unlink(missing_ok=True)
                self.files.discard(str(old))
