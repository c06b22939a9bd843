"""Makes transformers and the model know each other, as soon as both are imported and without importing either at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from wrapt import register_post_import_hook

from .model.loading import Hooks


def install() -> None:
    """Fill in the model's hooks, and register Auto classes and pipeline task when transformers has imported them."""
    Hooks.find, Hooks.upload = _find, _upload
    for theirs, ours, register in (
        ("models.auto.configuration_auto", "configuration_uranet", _register_config),
        ("models.auto.modeling_auto", "modeling_uranet", _register_model),
        ("models.auto.image_processing_auto", "image_processing_uranet", _register_image_processor),
        ("pipelines", "pipeline_uranet", _register_pipeline),
    ):
        _register_when_imported(f"transformers.{theirs}", f"{__package__}.model.{ours}", register)


def _register_when_imported(theirs: str, ours: str, register: Callable[[Any], None]) -> None:
    """Call `register` with their module once ours is imported; when theirs is imported first, ours follows."""

    def import_ours(_: Any) -> None:
        if ours not in sys.modules:  # else it is being imported, and just asked for theirs
            import_module(ours)

    register_post_import_hook(lambda _: register(import_module(theirs)), ours)
    register_post_import_hook(import_ours, theirs)


def _find(name: str | Path, files: Any, **hub: Any) -> Path:
    from .hub.download import checkpoint_folder

    return checkpoint_folder(name, files, **hub)


def _upload(folder: Path, repo_id: str, **commit: Any) -> Any:
    from .hub.push import upload

    return upload(folder, repo_id, **commit)


def _register_config(auto: Any) -> None:
    from .model.configuration_uranet import URANetConfig

    auto.AutoConfig.register(URANetConfig.model_type, URANetConfig, exist_ok=True)


def _register_model(auto: Any) -> None:
    from .model.configuration_uranet import URANetConfig
    from .model.modeling_uranet import URANetForAnomalyDetection

    auto.AutoModel.register(URANetConfig, URANetForAnomalyDetection, exist_ok=True)  # as pushed checkpoints say


def _register_image_processor(auto: Any) -> None:
    from .model.configuration_uranet import URANetConfig
    from .model.image_processing_uranet import URANetImageProcessor

    classes = {"torchvision": URANetImageProcessor}
    auto.AutoImageProcessor.register(URANetConfig, image_processor_classes=classes, exist_ok=True)


def _register_pipeline(pipelines: Any) -> None:
    from .model.modeling_uranet import URANetForAnomalyDetection
    from .model.pipeline_uranet import TASK, URANetPipeline

    pipelines.PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=URANetPipeline, pt_model=URANetForAnomalyDetection, type="image"
    )
