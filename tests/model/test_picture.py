"""Pictures from components: shapes, ranges, where they are restored, what a checkpoint holds, and what it says without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import draw_part, tiny_config

from ura_hf import URANetConfig, URANetForAnomalyDetection, UserError
from ura_hf.hub.load import load_detector
from ura_hf.model.picture import PictureDecoder, replaced

MAX_BYTES = 1_500_000  # that the decoder may add to a checkpoint


def test_a_decoder_draws_a_square_of_pixels_for_a_cell():
    decoder = PictureDecoder(4, 2, 3)
    bias = torch.arange(27.0)[None].repeat(4, 1) / 27
    decoder.begin(torch.zeros(36, 27), bias, seed=0)
    drawn = decoder(torch.randn(2, 4, 2, 2))
    assert drawn.shape == (2, 3, 6, 6)
    red = torch.arange(9.0).view(3, 3) / 27
    torch.testing.assert_close(drawn[1, 0], red.repeat(2, 2))


def test_the_decoder_of_the_default_config_is_small():
    config = URANetConfig()
    decoder = PictureDecoder(config.components, config.grid_size, config.cell_pixels)
    state = decoder.state_dict()
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert sum(value.numel() * value.element_size() for value in state.values()) <= MAX_BYTES


@pytest.mark.parametrize("given, side", [(8, 64), (3, 24), (32, 64)])
def test_a_picture_is_at_most_as_fine_as_the_input(given, side):
    decoder = URANetForAnomalyDetection(tiny_config(cell_pixels=given)).uranet.decoder
    assert decoder(torch.zeros(1, 32, 8, 8)).shape == (1, 3, side, side)


def test_cells_are_replaced_where_the_map_is_high():
    score_map = torch.full((1, 1, 16, 16), 0.3)
    score_map[..., 8:12, 8:12] = 0.6
    score_map[..., :4, :4] = 0.45
    gate = replaced(score_map, 4)[0, 0]
    expected = torch.zeros(4, 4)
    expected[0, 0], expected[2, 2] = 0.5, 1.0
    torch.testing.assert_close(gate, expected)


def test_the_map_alone_is_enough_to_redraw_a_place(checkpoint):
    """Suspicion of the perception is not needed: with a map that is high everywhere, nothing of the input's queries is left."""
    model = load_detector(checkpoint, device="cpu").model.uranet
    features = torch.randn(2, model.backbone.channels, 8, 8)
    calm, alarmed = torch.full((2, 64, 64), 1e-3), torch.full((2, 64, 64), 1e3)
    with torch.no_grad():
        seen, same = model.draw(features, calm)
        _, redrawn = model.draw(features, alarmed)
        views = model.views
        components = views.standardize(views.project(features))
        expected = model.decoder(model.restoration(components, torch.ones(2, 1, 8, 8))).clamp(0, 1)
    assert torch.equal(seen, same)
    torch.testing.assert_close(redrawn, expected)


def test_pictures_come_in_the_geometry_of_the_photo_and_only_if_asked(checkpoint, tmp_path):
    detector = load_detector(checkpoint, device="cpu")
    photo, _ = draw_part(300, defect=True)
    plain, asked = detector(photo), detector(photo, return_restored=True, maps=())
    assert "restored_image" not in plain
    for name in ("seen_image", "restored_image"):
        assert asked[name].shape == photo.shape and asked[name].dtype == np.float32
        assert asked[name].min() >= 0 and asked[name].max() <= 1
    detector.save_pretrained(tmp_path)
    again = load_detector(tmp_path, device="cpu")(photo, return_restored=True)
    assert np.array_equal(again["restored_image"], asked["restored_image"])


def test_half_precision_draws_the_same(checkpoint):
    detector = load_detector(checkpoint, device="cpu")
    pixels = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        full = detector.model(pixels, return_restored=True).restored_image
        half = detector.model.to(torch.bfloat16)(pixels, return_restored=True).restored_image
    assert half.dtype == torch.bfloat16 and (half.float() - full).abs().mean() < 0.05


def test_a_checkpoint_of_before_loads_and_says_that_it_has_no_decoder(checkpoint, without_decoder):
    old, new = (load_detector(folder, device="cpu") for folder in (without_decoder, checkpoint))
    photo, _ = draw_part(300, defect=True)
    expected, found = new(photo), old(photo)
    assert all(np.array_equal(found[name], value) for name, value in expected.items())
    assert old.model.config.cell_pixels == 0 and old.model.uranet.decoder is None
    with pytest.raises(UserError, match="no decoder of pictures"):
        old(photo, return_restored=True)
