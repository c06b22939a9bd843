"""A detector as one file for other runtimes: ONNX, or a program of `torch.export`; checked against the model before it counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .data.extras import needs_extra
from .data.files import write, write_whole
from .data.textures import generated_texture
from .hub.exported import FACTS, READERS, Run, outputs_of
from .hub.load import load_checkpoint
from .model.errors import UserError
from .model.image_processing_uranet import URANetImageProcessor
from .model.modeling_uranet import URANetForAnomalyDetection
from .model.verdicts import THRESHOLD

WITHOUT_UNIT = (
    "image_score",
    "anomaly_map",
)  # compared by shares of their largest value; the others by probability and nats
TOLERANCE = 1e-3  # float32 in another order gives some 1e-6
HALF_TOLERANCE = 0.05  # with a backbone in float16
EXTRACTOR = "uranet.extractor"  # in the names of the scopes of the backbone's nodes
COMPARED = 4  # images that are looked at in one batch; so many generated textures where none are given


class Graph(nn.Module):
    """RGB in [0, 1] of the network's size in, the raw outputs of `outputs_of` out.

    Thresholds stay outside, as facts beside the graph: a score s stands for s / (s + threshold) on the fixed scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: URANetForAnomalyDetection, processor: URANetImageProcessor) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs_of(model.config)
        for name, values in (("mean", processor.image_mean), ("std", processor.image_std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) -> scores (B,) and maps (B, S, S), all float32."""
        found = self.model((images - self.mean) / self.std)
        return tuple(found[name] for name in self.outputs)


def export(checkpoint: str | Path, output: Path, images: Sequence[Path] = (), half: bool = False) -> dict[str, float]:
    """Write a checkpoint as `output`, .onnx or .pt2, and give each output's largest difference from the model.

    Differences of score and map are shares of their largest value; they are over `images` (default: generated textures), one at
    a time and the first few at once. The file takes batches of any size, and holds neither images nor names of folders.

    With `half` the backbone of an .onnx computes in float16; inputs, outputs and all that scores stay float32.

    Raises:
        UserError: The suffix is another one, packages are missing, the place can't be written, or the file differs from the model
            by more than `TOLERANCE`, with `half` `HALF_TOLERANCE`; then none is left.
    """
    kind, tolerance = output.suffix.lower(), HALF_TOLERANCE if half else TOLERANCE
    if kind not in READERS or output.is_dir():
        raise UserError(
            f"the output must be a file that ends in .onnx or .pt2, but got {output}: name it by what is to read it."
        )
    if half and kind != ".onnx":
        raise UserError(f"--half is for files that end in .onnx, but got {output}: leave it out, or write an .onnx.")
    if kind == ".onnx":
        _require_onnx()
    model, processor = load_checkpoint(checkpoint)
    detector = Graph(model.cpu(), processor).eval().requires_grad_(False)
    pixels = _pixels(processor, images)
    program = _trace(detector)
    found: dict[str, float] = {}

    def fill(path: Path) -> None:
        write_kind = _write_program if kind == ".pt2" else _write_half if half else _write_onnx
        write_kind(program, path, facts(detector, processor))
        found.update(_differences(detector, READERS[kind](path, "cpu").run, pixels))
        if not all(difference <= tolerance for difference in found.values()):
            raise UserError(
                f"the exported file differs from the model by {np.max(list(found.values())):.2g}, more than {tolerance}: "
                "nothing was written. Try another version of torch, or of onnxruntime."
            )

    write(output, lambda path: write_whole(path, fill))
    return found


def _trace(detector: Graph) -> torch.export.ExportedProgram:
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


def facts(detector: Graph, processor: URANetImageProcessor) -> dict[str, Any]:
    """What a runtime must know beside the graph: how images are prepared, thresholds, and the names of the outputs."""
    return {
        "input": "RGB in [0, 1], float32 (B, 3, S, S), resized with antialiasing; normalisation is in the graph",
        "outputs": detector.outputs,
        "score": f"s / (s + image_threshold), above {THRESHOLD} anomalous; without thresholds there is no verdict",
        "config": json.loads(detector.model.config.to_json_string()),
        "processor": json.loads(processor.to_json_string()),
    }


def _pixels(processor: URANetImageProcessor, images: Sequence[Path]) -> Tensor:
    """Images as an exported detector takes them, (N, 3, S, S)."""
    side = processor.size.height
    given: list[Any] = [str(path) for path in images]
    given = given or [generated_texture(np.random.default_rng(index), side) for index in range(COMPARED)]
    return processor(given, do_normalize=False, return_tensors="pt")["pixel_values"]


def _differences(detector: Graph, run: Run, pixels: Tensor) -> dict[str, float]:
    names = detector.outputs
    worst = dict.fromkeys(names, 0.0)
    for batch in (*pixels.split(1), pixels[:COMPARED]):
        found = run(batch, names)
        for name, wanted in zip(names, detector(batch), strict=True):
            expected, got = wanted.numpy(), found[name].numpy()
            scale = max(float(np.abs(expected).max()), 1e-12 if name in WITHOUT_UNIT else 1.0)
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
    _onnx(program, known).save(path)


def _write_half(program: torch.export.ExportedProgram, path: Path, known: Mapping[str, Any]) -> None:
    """Write the nodes of the backbone in float16: squared residuals need float32, and onnxruntime lacks some nodes in float16."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = _onnx(program, known).model_proto
    scopes = {node.name: {entry.key: entry.value for entry in node.metadata_props} for node in model.graph.node}
    scoring = [name for name, scope in scopes.items() if EXTRACTOR not in scope.get("namespace", "")]
    onnx.save(convert_float_to_float16(model, keep_io_types=True, node_block_list=scoring), path)


def _onnx(program: torch.export.ExportedProgram, known: Mapping[str, Any]) -> torch.onnx.ONNXProgram:
    """The program as ONNX, with what must be known as metadata."""
    written = torch.onnx.export(
        program,
        (),
        input_names=["images"],
        output_names=[*known["outputs"]],
        dynamic_shapes={"images": {0: "batch"}},
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    written.model.metadata_props.update({name: json.dumps(value) for name, value in known.items()})
    return written


def _write_program(program: torch.export.ExportedProgram, path: Path, known: Mapping[str, Any]) -> None:
    with path.open("wb") as file:  # by a path torch asks for its suffix
        torch.export.save(program, file, extra_files={FACTS: json.dumps(known)})
