"""A detector as one file for other runtimes: ONNX, or a program of `torch.export`; checked against the model before it counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .data.extras import needs_extra
from .data.files import write, write_whole
from .data.textures import generated_texture
from .hub.load import load_checkpoint
from .model.errors import UserError
from .model.image_processing_uranet import MAPS, THRESHOLD, URANetImageProcessor
from .model.modeling_uranet import URANetForAnomalyDetection

OUTPUTS = ("image_score", *(name for name in MAPS if name != "score_map"))
"""What a file gives, raw: the names in `URANetOutput`."""
WITHOUT_UNIT = (
    "image_score",
    "anomaly_map",
)  # compared by shares of their largest value; the others by probability and nats
FACTS = "uranet.json"  # file in a .pt2 that holds what an .onnx has as metadata
TOLERANCE = 1e-3  # float32 in another order gives some 1e-6
COMPARED = 4  # images that are looked at in one batch; so many generated textures where none are given
Run = Callable[[Tensor], Sequence[np.ndarray]]


class ExportedDetector(nn.Module):
    """RGB in [0, 1] of the network's size in, the raw outputs of `OUTPUTS` out.

    Thresholds stay outside, as facts beside the graph: a score s stands for s / (s + threshold) on the fixed scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: URANetForAnomalyDetection, processor: URANetImageProcessor) -> None:
        super().__init__()
        self.model = model
        for name, values in (("mean", processor.image_mean), ("std", processor.image_std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) -> image_score (B,) and maps (B, S, S), all float32."""
        found = self.model((images - self.mean) / self.std)
        return tuple(found[name] for name in OUTPUTS)


def export(checkpoint: str | Path, output: Path, images: Sequence[Path] = ()) -> dict[str, float]:
    """Write a checkpoint as `output`, .onnx or .pt2, and give each output's largest difference from the model.

    Differences of score and map are shares of their largest value; they are over `images` (default: generated textures), one at
    a time and the first few at once. The file takes batches of any size, and holds neither images nor names of folders.

    Raises:
        UserError: The suffix is another one, packages are missing, the place can't be written, or the file differs from the model
            by more than `TOLERANCE`; then none is left.
    """
    kind = output.suffix.lower()
    if kind not in (".onnx", ".pt2") or output.is_dir():
        raise UserError(
            f"the output must be a file that ends in .onnx or .pt2, but got {output}: name it by what is to read it."
        )
    if kind == ".onnx":
        _require_onnx()
    model, processor = load_checkpoint(checkpoint)
    detector = ExportedDetector(model.cpu(), processor).eval().requires_grad_(False)
    pixels = _pixels(processor, images)
    program = _trace(detector)
    found: dict[str, float] = {}

    def fill(path: Path) -> None:
        written, read = (_write_onnx, _read_onnx) if kind == ".onnx" else (_write_program, _read_program)
        written(program, path, facts(model, processor))
        found.update(_differences(detector, read(path), pixels))
        if not all(difference <= TOLERANCE for difference in found.values()):
            raise UserError(
                f"the exported file differs from the model by {np.max(list(found.values())):.2g}, more than {TOLERANCE}: "
                "nothing was written. Try another version of torch, or of onnxruntime."
            )

    write(output, lambda path: write_whole(path, fill))
    return found


def _trace(detector: ExportedDetector) -> torch.export.ExportedProgram:
    """The detector as a graph, for batches of any size."""
    side = detector.model.config.image_size
    example = torch.zeros(2, 3, side, side)  # of one image the size would be taken for a constant
    detector(example)  # what the model keeps from its first call on is a constant
    program = torch.export.export(
        detector, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
    )
    program.example_inputs = None
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it names this machine's folders
    return program


def facts(model: URANetForAnomalyDetection, processor: URANetImageProcessor) -> dict[str, Any]:
    """What a runtime must know beside the graph: how images are prepared, and the thresholds."""
    config = model.config
    return {
        "input": "RGB in [0, 1], float32 (B, 3, S, S), resized with antialiasing; normalisation is in the graph",
        "image_size": config.image_size,
        "resize_mode": processor.resize_mode,
        "resample": int(processor.resample),
        "max_value": processor.max_value,
        "image_threshold": config.image_threshold,
        "pixel_threshold": config.pixel_threshold,
        "score": f"s / (s + threshold), above {THRESHOLD} anomalous; without thresholds there is no verdict",
    }


def _pixels(processor: URANetImageProcessor, images: Sequence[Path]) -> Tensor:
    """Images as an exported detector takes them, (N, 3, S, S)."""
    side = processor.size.height
    given: list[Any] = [str(path) for path in images]
    given = given or [generated_texture(np.random.default_rng(index), side) for index in range(COMPARED)]
    return processor(given, do_normalize=False, return_tensors="pt")["pixel_values"]


def _differences(detector: ExportedDetector, run: Run, pixels: Tensor) -> dict[str, float]:
    worst = dict.fromkeys(OUTPUTS, 0.0)
    for batch in (*pixels.split(1), pixels[:COMPARED]):
        for name, wanted, got in zip(OUTPUTS, detector(batch), run(batch), strict=True):
            expected = wanted.numpy()
            scale = max(float(np.abs(expected).max()), 1e-12) if name in WITHOUT_UNIT else 1.0
            fits = got.shape == expected.shape
            difference = np.abs(expected - got).max() / scale if fits else np.inf
            worst[name] = float(np.maximum(worst[name], difference))  # keeps what is not a number
    return worst


def _require_onnx() -> None:
    with needs_extra("export", "writing .onnx"):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401


def _write_onnx(program: torch.export.ExportedProgram, path: Path, known: Mapping[str, Any]) -> None:
    written = torch.onnx.export(
        program,
        (),
        input_names=["images"],
        output_names=list(OUTPUTS),
        dynamic_shapes={"images": {0: "batch"}},
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    written.model.metadata_props.update({name: json.dumps(value) for name, value in known.items()})
    written.save(path)


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda batch: session.run(list(OUTPUTS), {"images": batch.numpy()})


def _write_program(program: torch.export.ExportedProgram, path: Path, known: Mapping[str, Any]) -> None:
    with path.open("wb") as file:  # by a path torch asks for its suffix
        torch.export.save(program, file, extra_files={FACTS: json.dumps(known)})


def _read_program(path: Path) -> Run:
    with path.open("rb") as file:
        program = torch.export.load(file).module()
    return lambda batch: [value.numpy() for value in program(batch)]
