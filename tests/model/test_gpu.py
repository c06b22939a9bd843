"""Everything the network computes on a GPU stays there: on a real one, or with tensors that only know their shape and device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_config
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ura_hf import URANetForAnomalyDetection, URANetImageProcessor
from ura_hf.model.memory import NormalMemory
from ura_hf.training import fit as fitting
from ura_hf.training.batches import FeatureBatches
from ura_hf.training.coreset import farthest_points
from ura_hf.training.objective import Learner
from ura_hf.training.pose import turned_copy

CHANNELS, SIDE = 64 + 128 + 256, 8


class Numbers(TorchDispatchMode):
    """Python numbers where a tensor without content is asked for its own."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.5 if args[0].is_floating_point() else args[0].dtype == torch.bool or 1
        if func is torch.ops.aten.equal.default:
            return True
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    """Make a GPU of tensors without content where there is none."""
    with contextlib.ExitStack() as stack:
        if not torch.cuda.is_available():
            stack.enter_context(FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True))
            stack.enter_context(Numbers())
        try:
            torch.rand(1, device="cuda")[0]
        except (RuntimeError, AssertionError) as error:
            pytest.skip(f"no GPU, and torch {torch.__version__} can't imagine one ({type(error).__name__})")
        yield


LEFT = "f0" * 8  # region of interest: the left half of the cells


def detector(dtype: torch.dtype, roi: str | None = None) -> URANetForAnomalyDetection:
    """On the GPU; `Module.to` can't convert tensors without content."""
    with torch.device("cuda"):
        model = URANetForAnomalyDetection(tiny_config(image_threshold=1.0, pixel_threshold=1.0, roi=roi))
    for module in model.modules():
        for name, tensor in module._parameters.items():
            module._parameters[name] = None if tensor is None else nn.Parameter(tensor.detach().to(dtype))
        for name, tensor in module._buffers.items():
            module._buffers[name] = tensor.to(dtype) if tensor is not None and tensor.is_floating_point() else tensor
    channels = torch.ones(CHANNELS, device="cuda")
    model.backbone.set_statistics(0.1 * channels, channels)
    return model.eval()


def not_real() -> bool:
    """Whether the GPU is made of tensors without content."""
    return isinstance(torch.rand(1, device="cuda"), FakeTensor)


def features(count: int = 4) -> Tensor:
    return torch.rand(count, CHANNELS, SIDE, SIDE, device="cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_detection(dtype):
    with torch.no_grad():
        output = detector(dtype)(torch.rand(2, 3, 64, 64, device="cuda"))
    assert {value.device.type for value in output.values()} == {"cuda"}
    assert output.score.dtype == output.score_map.dtype == torch.float32


@pytest.mark.parametrize("roi", [None, LEFT])
def test_learning(roi):
    model = detector(torch.float32, roi).train()
    seen = model.uranet.views.project(features())
    losses = Learner(model)(seen, seen)
    assert {value.device.type for value in losses} == {"cuda"}


@pytest.mark.parametrize("roi", [None, LEFT])
def test_fitting_and_calibration(monkeypatch, roi, tmp_path):
    if not_real():  # which cells cover the others depends on their content, and a copy of what has none crashes
        monkeypatch.setattr(fitting, "copy", SimpleNamespace(deepcopy=lambda views: views))
        monkeypatch.setattr(fitting, "_covering", lambda points, count, seed: torch.arange(count) % len(points))
    model = detector(torch.float32, roi)
    cached = np.random.default_rng(0).random((12, CHANNELS, SIDE, SIDE)).astype(np.float16)
    batches = FeatureBatches(cached, list(range(12)), None, model)
    fitting.fit_views(model.uranet.views, batches.features_of, batches.rows, 0)
    batches.project(model.uranet.views, tmp_path)
    fitting.fill_tokens(model, batches, 0)
    fitting.calibrate_score(model, batches, 6, 0)
    assert model.config.is_calibrated


def test_turned_copies(monkeypatch):
    inputs = {
        "pixel_values": torch.rand(2, 3, 64, 64, device="cuda"),
        "original_sizes": torch.tensor([[32, 64], [64, 64]]),
    }
    sample, devices = functional.grid_sample, []

    def noting(image: Tensor, *arguments: Any, **more: Any) -> Tensor:
        devices.append(image.device.type)
        return sample(image, *arguments, **more)

    monkeypatch.setattr(functional, "grid_sample", noting)
    assert turned_copy(inputs, range(2), 1, URANetImageProcessor(size=64)).device.type == "cuda"
    assert devices == ["cpu"] * 2  # Apple's GPUs lack it with this border


def test_farthest_points():
    if not_real():
        pytest.skip("no GPU: which points are farthest depends on their content")
    points = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0))
    found = farthest_points(points.cuda(), 300, 5)
    assert found.device.type == "cuda" and torch.equal(found.cpu(), farthest_points(points, 300, 5))


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.mm.default
        return func(*args, **(kwargs or {}))


def test_all_cells_of_an_image_are_looked_up_in_one_step():
    """Small blocks would leave a GPU idle."""
    with torch.device("cuda"):
        memory, components = NormalMemory(300, 16), torch.rand(1, 16, 32, 32)
    with Products() as products:
        assert memory.distance(components).shape == (1, 1, 32, 32)
    assert products.count == 1
