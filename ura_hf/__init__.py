"""URA-Net: visual anomaly detection and localisation by restoring suspicious features as normal ones.

Importing the package registers the models with transformers' Auto classes and the pipeline task `image-anomaly-detection`.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoImageProcessor, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_uranet import URANetConfig
from .errors import UserError
from .image_processing_uranet import URANetImageProcessor
from .modeling_uranet import URANetForAnomalyDetection, URANetModel, URANetOutput
from .pipeline import TASK, URANetPipeline

__version__ = "0.1.0"

AutoConfig.register(URANetConfig.model_type, URANetConfig, exist_ok=True)
AutoModel.register(URANetConfig, URANetForAnomalyDetection, exist_ok=True)  # as pushed checkpoints say
AutoImageProcessor.register(URANetConfig, image_processor_classes={"torchvision": URANetImageProcessor}, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=URANetPipeline,
    pt_model=URANetForAnomalyDetection,
    type="image",
)

__all__ = [
    "URANetConfig",
    "URANetForAnomalyDetection",
    "URANetImageProcessor",
    "URANetModel",
    "URANetOutput",
    "URANetPipeline",
    "UserError",
    "__version__",
]
