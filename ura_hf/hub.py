"""Finding and loading checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch

from .configuration_uranet import URANetConfig
from .errors import UserError
from .image_processing_uranet import URANetImageProcessor
from .modeling_uranet import URANetForAnomalyDetection
from .names import resolve
from .pipeline import URANetPipeline

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def load_checkpoint(folder: str | Path) -> tuple[URANetForAnomalyDetection, URANetImageProcessor]:
    """Model, on the GPU where there is one, and processor of a checkpoint: a local folder or a bundled name.

    Raises:
        UserError: The folder is missing or is not a complete checkpoint.
    """
    folder = resolve(folder)
    if absent := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(f"{folder} lacks {', '.join(absent)}: fetch or train the checkpoint again.")
    try:
        config = URANetConfig.from_pretrained(folder)
        processor = URANetImageProcessor.from_pretrained(folder)
    except UserError as error:
        raise UserError(f"{folder}/config.json: {error}") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder} has an unreadable config.json or preprocessor_config.json ({' '.join(str(error).split())[:200]}): "
            "fetch or train the checkpoint again."
        ) from error
    model = URANetForAnomalyDetection.from_pretrained(folder, config=config).eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), processor


def load_detector(folder: str | Path) -> URANetPipeline:
    """The `image-anomaly-detection` pipeline of a checkpoint; arguments and errors as in `load_checkpoint`."""
    model, processor = load_checkpoint(folder)
    return URANetPipeline(model=model, image_processor=processor, device=model.device)
