"""A CNN for inference: every BatchNorm folded into the convolution before it."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

State = tuple[tuple[int, int], ...]


class FoldedCNN:
    """The CNN to compute features with; kept until a tensor of the original changes.

    In eval mode BatchNorm is affine, gamma (x - mean) / sqrt(var + eps) + beta, so a convolution with scaled weights and another
    bias does both. The same features up to rounding, with one pass over memory less a layer.
    """

    def __init__(self) -> None:
        self._state: State = ()
        self._folded: nn.Module | None = None

    def of(self, cnn: nn.Module) -> nn.Module:
        """The folded copy of a CNN in eval mode; the CNN itself where torch.fx can't trace it or a compiler is at work."""
        if torch.compiler.is_compiling():
            return cnn
        state = _state(cnn)
        if self._folded is None or self._state != state:
            self._state, self._folded = state, _fold(cnn)
        return self._folded


def _state(cnn: nn.Module) -> State:
    """Where every tensor lies and how often it was changed in place."""
    own = (
        t for m in cnn.modules() for t in (*m._parameters.values(), *m._buffers.values())
    )  # quicker than cnn.parameters()
    return tuple((t.data_ptr(), -1 if t.is_inference() else t._version) for t in own if t is not None)


def _fold(cnn: nn.Module) -> nn.Module:
    try:
        with torch.inference_mode(False), torch.no_grad():
            return fuse(cnn).to(memory_format=torch.channels_last)
    except Exception:  # control flow or calls that torch.fx can't trace: whatever the architecture makes it raise
        return cnn
