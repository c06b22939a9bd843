"""URA-Net: find defects in images after seeing only good ones, by restoring suspicious features as normal ones.

Importing the package is quick: everything below is loaded when it is first used. From then on transformers knows the model by its
Auto classes and the pipeline task `image-anomaly-detection`, and `from_pretrained` knows the names of checkpoints.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import install

__version__ = "0.2.0"

_PLACES = {
    "UserError": "model.errors",
    "URANetConfig": "model.configuration_uranet",
    "URANetForAnomalyDetection": "model.modeling_uranet",
    "URANetImageProcessor": "model.image_processing_uranet",
    "URANetModel": "model.modeling_uranet",
    "URANetOutput": "model.pretrained",
    "URANetPipeline": "model.pipeline_uranet",
    "TrainingOptions": "training.options",
    "evaluate": "evaluation.evaluate",
    "frames": "model.frames",
    "load_detector": "hub.load",
    "train": "training.train",
}

__all__ = [
    "TrainingOptions",
    "URANetConfig",
    "URANetForAnomalyDetection",
    "URANetImageProcessor",
    "URANetModel",
    "URANetOutput",
    "URANetPipeline",
    "UserError",
    "__version__",
    "evaluate",
    "frames",
    "load_detector",
    "train",
]

if TYPE_CHECKING:
    from .evaluation.evaluate import evaluate
    from .hub.load import load_detector
    from .model.configuration_uranet import URANetConfig
    from .model.errors import UserError
    from .model.frames import frames
    from .model.image_processing_uranet import URANetImageProcessor
    from .model.modeling_uranet import URANetForAnomalyDetection, URANetModel
    from .model.pipeline_uranet import URANetPipeline
    from .model.pretrained import URANetOutput
    from .training.options import TrainingOptions
    from .training.train import train

install()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
