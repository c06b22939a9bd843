"""The model of a file that `uranet export` wrote, run from that file alone: ONNX by onnxruntime, a .pt2 by torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from ..data.extras import needs_extra
from ..model.configuration_uranet import URANetConfig
from ..model.device import pick_device
from ..model.errors import UserError
from ..model.image_processing_uranet import LEARNT, MAPS, URANetImageProcessor
from ..model.pretrained import URANetOutput

FACTS = "uranet.json"
"""File in a .pt2 that holds what an .onnx has as metadata: `config` and `processor`, as in a checkpoint, and two sentences."""
Run = Callable[[Tensor, Sequence[str]], Mapping[str, Tensor]]
"""RGB in [0, 1], (B, 3, S, S), and names of outputs -> these outputs."""


def is_exported(name: str | Path) -> bool:
    """Whether a name is that of an exported file, by its suffix."""
    return Path(name).suffix.lower() in READERS and not Path(name).is_dir()


def outputs_of(config: URANetConfig) -> tuple[str, ...]:
    """What a file of this config gives, raw: names in `URANetOutput`."""
    raw = ("image_score", *(name for name in MAPS if name != "score_map"))
    return (*raw, "strangeness") if config.strangeness is not None and "memory" in config.all_views else raw


class ExportedModel:
    """Called as `URANetForAnomalyDetection`, gives the same fields but features, on images that are not normalised."""

    input_modalities = ("image",)

    def __init__(self, run: Run, config: URANetConfig, device: torch.device) -> None:
        self.run, self.config = run, config
        self.device = device
        """Where it takes images and gives results; onnxruntime takes them on the CPU, wherever it computes."""

    def __call__(
        self,
        pixel_values: Tensor,
        num_samples: int | None = None,
        return_dict: bool = True,
        return_restored: bool = False,
    ) -> URANetOutput:
        """Maps and scores of images, RGB in [0, 1], (B, 3, S, S); without what is learnt if `num_samples` is 0.

        Raises:
            UserError: `num_samples` is another number, or pictures are wanted.
        """
        if return_restored:
            raise UserError("an exported file draws no restored picture: load the checkpoint that it was made from.")
        if num_samples not in (None, 0):
            raise UserError(
                f"an exported file draws no weights, but got num_samples={num_samples}: leave it out, or load the checkpoint "
                "that the file was made from."
            )
        names = [name for name in outputs_of(self.config) if num_samples != 0 or name not in LEARNT]
        return URANetOutput(**self.run(pixel_values, names)).fill_scores(self.config)

    def can_generate(self) -> bool:
        """Asked by transformers."""
        return False


@dataclass(frozen=True)
class Opened:
    """An exported file, ready to run."""

    run: Run
    facts: Mapping[str, Any]
    """What lies beside the graph."""
    outputs: Sequence[str]
    device: torch.device


def load_exported(path: Path, device: Any = None) -> tuple[ExportedModel, URANetImageProcessor]:
    """Model and image processor of an exported file; `device` as in `load_detector`.

    Raises:
        UserError: The file is missing, damaged or not ours, there is no such device, or onnxruntime is not installed.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: pass what `uranet export` wrote.")
    opened = READERS[path.suffix.lower()](path, device)
    try:
        config = URANetConfig.from_dict(dict(opened.facts["config"]))
        processor = URANetImageProcessor.from_dict({**opened.facts["processor"], "do_normalize": False})
    except (UserError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"{path} does not say what `uranet export` writes beside the graph ({' '.join(str(error).split())[:200]}): export "
            "the checkpoint again, with this version of ura_hf."
        ) from error
    if absent := {*outputs_of(config)} - {*opened.outputs}:
        raise UserError(f"{path} does not give {', '.join(sorted(absent))}: export the checkpoint again.")
    return ExportedModel(opened.run, config, opened.device), processor


def read_onnx(path: Path, device: Any = None) -> Opened:
    """An .onnx, run by onnxruntime: on its GPU if there is one, or on `device`."""
    with needs_extra("export", "running .onnx"):
        import onnxruntime
    provider = _provider(onnxruntime.get_available_providers(), device)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=[provider])
    except Exception as error:  # those of onnxruntime share no other base
        raise _damaged(path, "onnxruntime", error) from error
    if provider[0] not in session.get_providers():
        raise UserError(
            f"onnxruntime can't use {device or 'the GPU'} here: see its messages above, or take device cpu."
        )
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True

    def run(images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        found = session.run([*names], {"images": images.cpu().numpy()}, options)
        return {name: torch.from_numpy(values) for name, values in zip(names, found, strict=True)}

    known = {name: _json(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    return Opened(run, known, [one.name for one in session.get_outputs()], torch.device("cpu"))


def _provider(available: Sequence[str], device: Any) -> tuple[str, dict[str, int]]:
    """Provider of onnxruntime for a device such as ``cuda:1``, and its options."""
    has_cuda = "CUDAExecutionProvider" in available
    kind, _, number = str(device or ("cuda" if has_cuda else "cpu")).partition(":")
    if kind == "cpu":
        return "CPUExecutionProvider", {}
    if kind == "cuda" and has_cuda and (not number or number.isdecimal()):
        return "CUDAExecutionProvider", {"device_id": int(number or 0)}
    known = "cpu or cuda" if has_cuda else "cpu; the package onnxruntime-gpu has cuda"
    raise UserError(f"device must be one that onnxruntime has here ({known}), but got {str(device)!r}.")


def read_program(path: Path, device: Any = None) -> Opened:
    """A .pt2, run by torch. Loading one can run code, as torch says: it must come from somebody you trust."""
    place, extra = pick_device(device), {FACTS: ""}
    try:
        with path.open("rb") as file:  # by a path torch asks for its suffix
            program = torch.export.load(file, extra_files=extra)
        program = move_to_device_pass(program, place) if place.type != "cpu" else program
    except Exception as error:  # whatever a zip of other things makes of it
        raise _damaged(path, "torch", error) from error
    module, known = program.module(), _json(extra[FACTS] or "{}")
    outputs = known.get("outputs", [])

    def run(images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        found = dict(zip(outputs, module(images.to(place)), strict=True))
        return {name: found[name] for name in names}

    return Opened(run, known, outputs, place)


READERS: dict[str, Callable[[Path, Any], Opened]] = {".onnx": read_onnx, ".pt2": read_program}
"""By the suffix of a file."""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # metadata of somebody else


def _damaged(path: Path, runtime: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path} is not a file that {runtime} can load ({reason}): export the checkpoint again.")
