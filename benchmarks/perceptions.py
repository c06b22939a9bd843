"""Trains a perception alone, as `uranet train` does beside restoration, which takes no part in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ura_hf import URANetConfig
from ura_hf.model.perception import AnomalyPerception
from ura_hf.training.losses import dice_loss, focal_loss
from ura_hf.training.synthesis import synthesize

BATCH = 8


@torch.enable_grad()
def learn_perception(
    config: URANetConfig, good: Tensor, photos: Tensor, steps: int, seed: int, dropout: float = 0.0
) -> AnomalyPerception:
    """A perception that has learnt from standardised components of good images and of textures, (N, K, G, G) each."""
    torch.manual_seed(seed)
    net = AnomalyPerception(good.shape[1], config.perception_size, config.prior_std, config.bayesian_perception)
    if dropout:
        net.norm.register_forward_hook(lambda _module, _given, found: functional.dropout(found, dropout))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.01)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2)
    )
    for _ in range(steps):
        some, textures = (values[torch.randint(len(values), (BATCH,))] for values in (good, photos))
        altered, mask = synthesize(some, textures, config.source_weights, config.mask_weights, config.max_blend)
        logits = net(altered)
        optimizer.zero_grad()
        (focal_loss(logits, mask) + dice_loss(logits, mask)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False).eval()
