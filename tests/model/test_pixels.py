"""Large images in blocks of rows: the same bits as all at once, and little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from ura_hf.model import pixels
from ura_hf.model.image_processing_uranet import URANetImageProcessor
from ura_hf.model.images import load_image, load_pixels


def noise(height: int, width: int, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, bands), dtype=np.uint8)


@pytest.mark.parametrize("resample", [2, 3])  # bilinear, bicubic
@pytest.mark.parametrize("mode", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(90, 130), (120, 40), (20, 190)])
def test_blocks_change_no_bit_of_the_networks_input(shape, mode, resample, monkeypatch):
    image = noise(*shape)
    processor = URANetImageProcessor(size={"height": 32, "width": 48}, resize_mode=mode, resample=resample)
    whole = processor(image, return_tensors="pt")["pixel_values"]
    floats = processor(load_image(image), return_tensors="pt")["pixel_values"]
    monkeypatch.setattr(pixels, "BLOCK_PIXELS", 7 * 130)
    blocks = processor(image, return_tensors="pt")["pixel_values"]
    assert whole.is_contiguous() and blocks.is_contiguous()
    assert torch.equal(blocks, whole) and torch.equal(floats, whole)


@pytest.mark.parametrize("mode", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(1500, 2000), (40, 3000), (3000, 40)])
def test_large_photos_are_shortened_in_8_bits_and_hardly_differ(shape, mode, monkeypatch):
    """Grain on a ramp, which is what rounding could show in."""
    grain = np.random.default_rng(0).normal(0, 7, (*shape, 3)) + np.linspace(40, 200, shape[1])[None, :, None]
    image = grain.clip(0, 255).astype(np.uint8)
    settings = {"resize_mode": mode, "do_normalize": False}
    processor = URANetImageProcessor(size={"height": 32, "width": 48}, **settings)
    floats = processor(load_image(image), return_tensors="pt")["pixel_values"]
    sizes: list[tuple[int, ...]] = []
    resize = URANetImageProcessor.resize

    def told(self, pixels, *arguments, **more):
        sizes.append((pixels.dtype, *pixels.shape[-2:]))
        return resize(self, pixels, *arguments, **more)

    monkeypatch.setattr(URANetImageProcessor, "resize", told)
    short = processor(image, return_tensors="pt")["pixel_values"]
    assert 255 * (short - floats).abs().max() < 3 and 255 * (short - floats).abs().mean() < 0.5
    assert sizes[0] == (torch.uint8, *shape) and all(height * width <= 16 * 32 * 48 for _, height, width in sizes[1:])


@pytest.mark.parametrize(
    ("mode", "bands", "kept"), [("RGB", 3, True), ("L", 1, True), ("RGBA", 4, False), ("opaque", 4, True)]
)
def test_eight_bits_stay_as_they_are_stored(mode, bands, kept, tmp_path, monkeypatch):
    """But transparency is laid over white, in floats."""
    monkeypatch.setattr(pixels, "BLOCK_PIXELS", 100)
    image = noise(13, 40, bands)
    image[..., 3:] = 255 if mode == "opaque" else image[..., 3:]
    Image.fromarray(image.squeeze()).save(path := tmp_path / "a.png")
    found = load_pixels(path)
    assert found.shape == (13, 40, 3) and found.dtype == (np.uint8 if kept else np.float32)
    if kept:
        assert np.array_equal(found, np.broadcast_to(image[..., :3], found.shape))
        assert np.array_equal(load_image(path), found / np.float32(255))
    assert load_image(path).dtype == np.float32


def test_an_array_that_may_not_be_written_is_read(recwarn):
    image = noise(20, 30)
    image.flags.writeable = False
    URANetImageProcessor(size=16)(image, return_tensors="pt")
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


MEASURED = """
import resource, sys
from ura_hf.cli.main import main
main(["predict", "uranet-demo-ring", sys.argv[1]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
main(["predict", "uranet-demo-ring", sys.argv[2], "--output", sys.argv[3]])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024))
"""


def test_a_large_photo_takes_few_bytes_a_pixel(tmp_path):
    """Decoded by Pillow 4, as an array 3; the rest is slack. As floats in three copies it was 42."""
    draw(tmp_path / "small.jpg", 640, 480)
    draw(tmp_path / "large.jpg", 6000, 5000)
    command = [sys.executable, "-c", MEASURED, *(tmp_path / name for name in ("small.jpg", "large.jpg", "out"))]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) <= 12 * 6000 * 5000
    assert (tmp_path / "out/large_heatmap.jpg").exists()


def draw(path: Path, width: int, height: int) -> None:
    Image.fromarray(noise(48, 64)).resize((width, height), Image.Resampling.NEAREST).save(path)
