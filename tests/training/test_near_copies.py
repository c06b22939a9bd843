"""Photos that show what another one shows are found, however they were changed; different parts are told apart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ura_hf.data.drawn.parts import demo_image
from ura_hf.training import near_copies as module
from ura_hf.training.near_copies import near_copies, same_as, thumbnail


@pytest.fixture(scope="module")
def rings() -> list[Image.Image]:
    return [Image.fromarray(demo_image("ring", seed)[0]) for seed in range(700, 708)]


def one_pixel(picture: Image.Image) -> Image.Image:
    changed = picture.copy()
    changed.putpixel((100, 90), (255, 0, 0))
    return changed


def jpeg(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=50)
    return Image.open(stream).convert("RGB")


CHANGES = {
    "one pixel": one_pixel,
    "saved as JPEG": jpeg,
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.7),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
    "half the size": lambda picture: picture.reduce(2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found(rings, tmp_path, change):
    paths = [tmp_path / f"{index}.png" for index in range(len(rings) + 2)]
    for path, picture in zip(paths, [*rings, change(rings[2]), None], strict=True):
        path.write_bytes(b"no image") if picture is None else picture.save(path)
    heard = []
    assert near_copies(paths, progress=lambda *event: heard.append(event)) == {8: 2}
    assert heard[-1] == ("copies", 10, 10)


def test_a_photo_of_8_bits_and_one_in_floats_have_one_thumbnail(rings, monkeypatch):
    """Whether they are made in blocks or not."""
    whole = thumbnail(pixels := np.asarray(rings[0])[:, :200])
    grey = pixels.mean(2).reshape(64, pixels.shape[0] // 64, -1).mean(1)
    wanted = np.asarray(Image.fromarray(grey.astype(np.float32)).resize((64, 64), Image.Resampling.BOX))
    np.testing.assert_allclose(whole, (wanted - wanted.mean()) / wanted.std(), atol=1e-3)
    np.testing.assert_allclose(thumbnail(pixels.astype(np.float32) / 255), whole, atol=1e-4)
    monkeypatch.setattr("ura_hf.model.pixels.BLOCK_PIXELS", 1000)
    np.testing.assert_allclose(thumbnail(pixels), whole, atol=1e-4)


def test_photos_that_differ_much_may_have_copies_that_differ_more():
    """A noisy second shot of a varied part differs more than two parts that are alike do; compared in steps, nothing is lost."""
    draw = np.random.default_rng(0)
    varied = draw.standard_normal((9, 64, 64)).astype(np.float32)
    again = varied[4] + 0.1 * draw.standard_normal((64, 64)).astype(np.float32)
    assert same_as([*varied, again]) == {9: 4}
    alike = varied[:1] + 0.1 * draw.standard_normal((9, 64, 64)).astype(np.float32)
    assert same_as([*alike]) == {} == same_as([*varied[:1]]) == same_as([])


def test_photos_are_compared_in_steps(monkeypatch):
    varied = [*np.random.default_rng(0).standard_normal((7, 64, 64)).astype(np.float32)]
    monkeypatch.setattr(module, "STEP", 2)
    assert same_as([*varied, varied[1], varied[6], varied[1]]) == {7: 1, 8: 6, 9: 1}
