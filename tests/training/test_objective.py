"""The training loss: its parts, its gradients, and parts of the network that are switched off."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_config

from ura_hf import URANetForAnomalyDetection
from ura_hf.training.objective import Learner


def with_axes(detector):
    """A detector whose axes are those of some cells, as training begins with."""
    views = detector.uranet.views
    views.set_axes(torch.randn(1000, detector.backbone.channels))
    views.memory.cells.normal_().div_(10)  # near what networks say before they are trained
    views.round()
    return detector


def pixels(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def learn(detector, count=4):
    views = detector.uranet.views
    return Learner(detector)(views.standardize(views.project(detector.uranet.extract(pixels(count)))))


def test_the_loss_and_its_parts():
    torch.manual_seed(0)
    detector = with_axes(URANetForAnomalyDetection(tiny_config(perception_weight=0.5))).train()
    out = learn(detector)
    parts = out.restoration_loss + 0.5 * out.perception_loss
    torch.testing.assert_close(out.loss.detach(), parts)
    out.loss.backward()
    without = [n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not without


@pytest.mark.parametrize("switch", ["bayesian_perception", "weigh_keys", "take_out_queries"])
def test_a_switched_off_part_still_learns_and_comes_back(switch, tmp_path):
    """The switch reaches the network, leaves no parameter without a gradient path, and is read back from the file."""
    torch.manual_seed(0)
    detector = with_axes(URANetForAnomalyDetection(tiny_config(**{switch: False}))).train()
    learn(detector).loss.backward()
    assert not [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    channels = torch.ones(detector.backbone.channels)
    detector.backbone.set_statistics(0.1 * channels, channels)
    detector.eval().save_pretrained(tmp_path)
    again = URANetForAnomalyDetection.from_pretrained(tmp_path)
    off = URANetForAnomalyDetection(tiny_config()).eval()
    off.load_state_dict(detector.state_dict(), strict=switch != "bayesian_perception")
    with torch.no_grad():
        expected = detector(pixels(1)).restored_features
        assert torch.equal(again(pixels(1)).restored_features, expected)
        assert switch == "bayesian_perception" or not torch.equal(off(pixels(1)).restored_features, expected)
