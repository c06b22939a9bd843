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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..evaluation.regions import Region, find_regions, is_of_another_kind
from ..evaluation.visualization import Pixels, fit_within, fraction_above, pca_colors, to_pixels
from ..inference import Unreadable, find
from ..model.errors import UserError
from ..model.image_processing_uranet import MAPS, THRESHOLD, URANetImageProcessor
from ..model.pipeline_uranet import URANetPipeline
from .shared import still_there
from .store import Detectors

PICTURE_SIDES = (1024, 640)  # longest and shortest that the longer side of a picture gets on the page, pixels
MOST_REGIONS = 100  # that are listed
KEPT = 200  # analyses on disk, of a few megabytes each


@dataclass(frozen=True)
class Analysis:
    """One image as one checkpoint sees it. Maps are float32 (S, S), in the geometry of the network's input."""

    about: dict[str, Any]
    """`checkpoint`, `file`, `image_size` as [height, width], `score`, raw `image_score`, `image_threshold` and `pixel_threshold`,
    `device`, `milliseconds`, and the fields of the image processor as `processor`."""
    picture: Pixels
    """The image, RGB (h, w, 3), its longer side from 640 to 1024 pixels."""
    features: Pixels
    """Input features in PCA colours, RGB (G, G, 3)."""
    restored: Pixels
    """Restored features in the same colours."""
    maps: dict[str, NDArray[np.float32]]

    def map(self, name: str, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """A map of the pipeline by name in the geometry of the image, (H, W) = `size`, by default that of `picture`."""
        processor = URANetImageProcessor.from_dict(self.about["processor"])
        size = size or self.picture.shape[:2]  # type: ignore[assignment]
        return processor.restore_geometry(torch.from_numpy(self.maps[name])[None], [size])[0].numpy()  # type: ignore[list-item]

    def regions(self, threshold: float) -> tuple[list[Region], NDArray[np.int32]]:
        """As `find_regions` on the maps at the size of `picture`; boxes and areas in pixels of the image that came in."""
        maps = self.map("score_map"), self.map("total_uncertainty")
        return find_regions(*maps, threshold, tuple(self.about["image_size"]))  # type: ignore[arg-type]

    def summary(self, threshold: float = THRESHOLD) -> dict[str, Any]:
        """The result as JSON.

        `label` normal or anomalous; `score` against `threshold`, both on the fixed 0-1 scale; `of_another_kind`: most of the
        image is unlike anything the checkpoint was trained on; `regions` with `box` [left, top, width, height] and `area`
        in pixels, `peak_score`, mean `uncertainty` in nats; `anomalous_fraction` of the pixels; `image_score`,
        `image_threshold` and `pixel_threshold` raw; `image_size` [height, width]; `device`; `milliseconds` of the inference.
        """
        about = {key: value for key, value in self.about.items() if key != "processor"}
        score_map = self.map("score_map")
        regions, _ = self.regions(threshold)
        return {
            "label": "anomalous" if about["score"] > threshold else "normal",
            "threshold": threshold,
            "of_another_kind": is_of_another_kind(score_map),
            "anomalous_fraction": fraction_above(score_map, threshold),
            "regions": [asdict(region) for region in regions[:MOST_REGIONS]],
            **about,
        }


def analyse(detector: URANetPipeline, path: str, checkpoint: str) -> Analysis:
    """Predict the image in a file with the detector of a checkpoint.

    Raises:
        UserError: The file is not an image that can be read, or the model gives no number for it.
    """
    fields = (*MAPS, "features", "restored_features")
    (one,) = find(detector, [path], keep=lambda image: fit_within(image, *PICTURE_SIDES), fields=fields)
    if isinstance(one, Unreadable):
        raise one.error
    verdict = one.verdict()
    assert one.picture is not None
    features, restored = (one.output[name][0].float().numpy() for name in fields[-2:])
    colors, restored_colors = pca_colors(features, restored)
    about = {
        "checkpoint": checkpoint,
        "file": Path(path).name,
        "image_size": list(one.size),
        **{name: verdict[name] for name in ("score", "image_score", *one.thresholds)},
        "device": _device(detector.device),
        "milliseconds": round(1000 * one.seconds, 1),
        "processor": json.loads(detector.image_processor.to_json_string()),
    }
    maps = {name: one.output[name][0].float().numpy() for name in MAPS}
    return Analysis(about, to_pixels(one.picture), colors, restored_colors, maps)


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
