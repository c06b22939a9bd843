"""From components to pixels: what the network sees of an image, and the part as it should look. Not in the paper."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .views import in_half

CONTEXT = 3  # side of the square of cells that the linear part makes the pixels of the middle one from
WIDTH, DEPTH = 64, 2  # channels and 3x3 convolutions of the correction
REPLACED = 0.4, 0.5  # values of the map on its fixed scale between which cells are replaced more and more


class ZeroConvolution(nn.Conv2d):
    """A convolution that starts at zero, so that a new model draws no random numbers for it.

    It computes in the format of its input, where a checkpoint holds it as float16.
    """

    bias: Tensor

    def reset_parameters(self) -> None:
        """Zero weights and bias."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """As of its base."""
        return functional.conv2d(input, self.weight.to(input), self.bias.to(input), padding=self.padding)


class PictureDecoder(nn.Module):
    """The pixels of a cell, RGB in [0, 1], from components around it: y = W x + b_t + f(x).

    W x + b_t is linear in the 3x3 cells around, with a constant for each place t, fitted in closed form to good photos; f is a
    small residual CNN, trained on what that leaves (`training.picture`). The score uses none of it. Checkpoints hold float16.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, components: int, grid_size: int, cell_pixels: int) -> None:
        super().__init__()
        self.cell_pixels = cell_pixels
        values = 3 * cell_pixels**2
        self.register_buffer("weight", torch.zeros(values, components, CONTEXT, CONTEXT))
        self.register_buffer("bias", torch.zeros(values, grid_size, grid_size))
        self.enter = ZeroConvolution(components, WIDTH, 1)
        self.blocks = nn.ModuleList(ZeroConvolution(WIDTH, WIDTH, 3, padding=1) for _ in range(DEPTH))
        self.correct = ZeroConvolution(WIDTH, values, 1)
        self.requires_grad_(False)  # the training of perception and restoration does not touch it
        self.register_state_dict_post_hook(in_half)

    def forward(self, components: Tensor) -> Tensor:
        """Standardised components (B, K, G, G) -> pictures (B, 3, p G, p G), p pixels a side of a cell; not clamped."""
        linear = functional.conv2d(_edged(components), self.weight.to(components)) + self.bias.to(components)
        hidden = self.enter(components)
        for block in self.blocks:
            hidden = hidden + block(functional.gelu(hidden))
        return functional.pixel_shuffle(linear + self.correct(functional.gelu(hidden)), self.cell_pixels)

    def known(self, components: Tensor) -> Tensor:
        """What the linear part knows of every cell: (B, K, G, G) -> rows (B G^2, 9 K), in the order of the weights."""
        return functional.unfold(_edged(components), CONTEXT).transpose(1, 2).flatten(0, 1)

    def wanted(self, pictures: Tensor) -> Tensor:
        """The pixels of every cell: pictures (B, 3, p G, p G) -> rows (B G^2, 3 p^2)."""
        return functional.pixel_unshuffle(pictures, self.cell_pixels).flatten(2).transpose(1, 2).flatten(0, 1)

    @torch.no_grad()
    def begin(self, weight: Tensor, bias: Tensor, seed: int) -> None:
        """Set W^T (9 K, 3 p^2) and b (G^2, 3 p^2), and draw a correction that is zero before it is trained."""
        self.weight.copy_(weight.T.reshape(self.weight.shape))
        self.bias.copy_(bias.T.reshape(self.bias.shape))
        draw = torch.Generator(self.weight.device).manual_seed(seed)
        for layer in (self.enter, *self.blocks):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=draw)  # as torch's own layers
        self.correct.reset_parameters()

    @torch.no_grad()
    def round(self) -> None:
        """Make all of it what a checkpoint holds."""
        for values in (*self.parameters(), *self.buffers()):
            values.copy_(values.half())


def replaced(score_map: Tensor, grid_size: int) -> Tensor:
    """How far cells are to be replaced, 0 to 1, by a map on the fixed 0-1 scale: (B, 1, S, S) -> (B, 1, G, G)."""
    low, high = REPLACED
    return ((functional.adaptive_avg_pool2d(score_map, grid_size) - low) / (high - low)).clamp(0, 1)


def _edged(components: Tensor) -> Tensor:
    """With the cells at the border repeated outwards."""
    return functional.pad(components, (CONTEXT // 2,) * 4, mode="replicate")
