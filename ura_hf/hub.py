"""Loading whole checkpoints: model, processor, detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .configuration_uranet import URANetConfig
from .download import checkpoint_folder, require_files
from .errors import UserError
from .image_processing_uranet import URANetImageProcessor
from .modeling_uranet import URANetForAnomalyDetection
from .pipeline import URANetPipeline


def load_checkpoint(name: str | Path, **hub: Any) -> tuple[URANetForAnomalyDetection, URANetImageProcessor]:
    """Model, on the GPU where there is one, and processor of a checkpoint; `hub` as in `download.checkpoint_folder`.

    Raises:
        UserError: Nothing has this name, or it is not a complete checkpoint.
    """
    folder = checkpoint_folder(name, **hub)
    require_files(folder)
    config = _read(URANetConfig, folder, "config.json")
    processor = _read(URANetImageProcessor, folder, "preprocessor_config.json")
    if (size := (processor.size.height, processor.size.width)) != (config.image_size, config.image_size):
        raise UserError(
            f"{folder / 'preprocessor_config.json'}: size is {size[0]}x{size[1]}, but the model takes "
            f"{config.image_size}x{config.image_size}: fetch or train the checkpoint again."
        )
    model = URANetForAnomalyDetection.from_pretrained(folder, config=config).eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), processor


def _read(kind: Any, folder: Path, name: str) -> Any:
    try:
        return kind.from_pretrained(folder)
    except UserError as error:
        raise UserError(f"{folder / name}: {error}") from error
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / name} is unreadable ({reason}): fetch or train the checkpoint again.") from error


def load_detector(name: str | Path, **hub: Any) -> URANetPipeline:
    """The `image-anomaly-detection` pipeline of a checkpoint; arguments and errors as in `load_checkpoint`."""
    model, processor = load_checkpoint(name, **hub)
    return URANetPipeline(model=model, image_processor=processor, device=model.device)
