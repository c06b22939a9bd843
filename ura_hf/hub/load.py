"""Loading a whole checkpoint, or an exported file: model and processor as one detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from ..model.configuration_uranet import URANetConfig
from ..model.device import pick_device
from ..model.errors import UserError
from ..model.image_processing_uranet import URANetImageProcessor
from ..model.loading import CONFIG_FILE, PROCESSOR_FILE, require_files, weights_name
from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.pipeline_uranet import URANetPipeline
from .download import checkpoint_folder
from .exported import is_exported, load_exported


def load_checkpoint(
    name: str | Path, *, variant: str | None = None, **hub: Any
) -> tuple[URANetForAnomalyDetection, URANetImageProcessor]:
    """Load the model, on the GPU if there is one, and the image processor of a checkpoint; arguments as in `load_detector`.

    Raises:
        UserError: Nothing has this name, or it is not a complete checkpoint.
    """
    files = (CONFIG_FILE, PROCESSOR_FILE, weights_name(variant))
    folder = checkpoint_folder(name, files, **hub)
    require_files(folder, files)
    config = read_part(URANetConfig, folder, CONFIG_FILE)
    processor = read_part(URANetImageProcessor, folder, PROCESSOR_FILE)
    if (size := (processor.size.height, processor.size.width)) != (config.image_size, config.image_size):
        raise UserError(
            f"{folder / PROCESSOR_FILE}: size is {size[0]}x{size[1]}, but the model takes "
            f"{config.image_size}x{config.image_size}: fetch or train the checkpoint again."
        )
    model = URANetForAnomalyDetection.from_pretrained(folder, config=config, variant=variant).eval()
    return model.to(pick_device()), processor


def load_detector(name: str | Path, *, variant: str | None = None, device: Any = None, **hub: Any) -> URANetPipeline:
    """Load the `image-anomaly-detection` pipeline of a checkpoint.

    Args:
        name: A folder that `uranet train` wrote, a bundled name, a name in URA_HF_CHECKPOINTS, NAMESPACE/NAME on the Hub, or a
            file that `uranet export` wrote.
        variant: Loads the weights of this name, e.g. ``fp16`` for model.fp16.safetensors; computation stays in float32.
        device: Where it runs, such as ``cpu`` or ``cuda:1``; None: on the GPU if there is one.
        hub: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download` and `subfolder`, as in transformers.

    Raises:
        UserError: Nothing has this name, it is not a complete checkpoint, or there is no such device.
    """
    if is_exported(name):
        exported, preparing = load_exported(Path(name), device)
        return URANetPipeline(model=exported, image_processor=preparing, device=exported.device)
    place = None if device is None else pick_device(device)  # what is wrong with it is said first
    model, processor = load_checkpoint(name, variant=variant, **hub)
    return URANetPipeline(model=model, image_processor=processor, device=place or model.device)


def detector_files(place: Path) -> list[Path]:
    """The files that `load_detector` reads of a checkpoint's folder, or an exported file alone."""
    return (
        [place] if is_exported(place) else [*place.glob("*.safetensors*"), place / CONFIG_FILE, place / PROCESSOR_FILE]
    )


def read_part(kind: Any, folder: Path, name: str) -> Any:
    """The config or the image processor of a checkpoint folder.

    Raises:
        UserError: The file, `name`, is missing, damaged, or holds a wrong value.
    """
    try:
        return kind.from_pretrained(folder)
    except UserError as error:
        raise UserError(f"{folder / name}: {error}") from error
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        OverflowError,
        RecursionError,
        StrictDataclassError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / name} is unreadable ({reason}): fetch or train the checkpoint again.") from error
