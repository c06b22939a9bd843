"""Every kind of image file and array ends as the same float32 RGB; every broken one as a clear error."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from ura_hf.model.errors import UserError
from ura_hf.model.image_checks import MAX_PIXELS
from ura_hf.model.images import load_image, load_mask
from ura_hf.model.pillow_images import FORMATS

HEIGHT, WIDTH = 37, 113


def noise(*channels: int, high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, (HEIGHT, WIDTH, *channels)).astype(dtype)


def png_bytes(samples: np.ndarray, height: int | None = None, width: int | None = None) -> bytes:
    """A 16-bit PNG written by hand, as Pillow writes no 16-bit colour; `height` and `width` falsify the header."""
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[samples.shape[2]]
    size = (width or samples.shape[1], height or samples.shape[0])
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 16, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return colour * alpha[..., None] + 1 - alpha[..., None]


def save(image: Image.Image, folder: Path, name: str, **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def check(image: np.ndarray, expected: np.ndarray, atol: float = 1e-6) -> None:
    assert image.dtype == np.float32 and image.flags.writeable
    if expected.ndim == 2:
        expected = np.stack([expected] * 3, axis=2)
    np.testing.assert_allclose(image, expected, atol=atol)


def test_grey_8_bit(tmp_path):
    grey = noise()
    check(load_image(save(Image.fromarray(grey), tmp_path, "a.png")), grey / 255)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_16_bit_keeps_its_levels(tmp_path, name):
    grey = noise(high=65536, dtype=np.uint16)
    image = load_image(save(Image.fromarray(grey), tmp_path, name))
    check(image, grey / 65535)
    assert len(np.unique(image)) == len(np.unique(grey)) > 1000


def test_grey_16_bit_mode_i_as_pil_image():
    grey = noise(high=65536, dtype=np.int32)
    check(load_image(Image.fromarray(grey)), grey / 65535)


def test_max_value_sets_the_white_of_16_bit_only(tmp_path):
    grey = noise(high=4096, dtype=np.uint16)
    check(load_image(save(Image.fromarray(grey), tmp_path, "a.png"), max_value=4095), grey / 4095)
    check(load_image(noise(3), max_value=4095), noise(3) / 255)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_png_keeps_its_levels(tmp_path, channels):
    samples = noise(channels, high=65536, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_bytes(samples))
    expected = samples / 65535
    if channels != 3:
        expected = over_white(expected[..., :-1], expected[..., -1]) * np.ones(3)
    check(load_image(tmp_path / "a.png"), expected)
    with Image.open(tmp_path / "a.png") as image:
        check(load_image(image), expected)


@pytest.mark.parametrize("largest", [1023, 4095, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_pgm_and_ppm_keep_their_levels(tmp_path, kind, largest):
    levels = noise(*([3] if kind in (3, 6) else []), high=largest + 1, dtype=np.uint16)
    header = f"P{kind} # levels\n{WIDTH} {HEIGHT}\n{largest}\n".encode()
    words = b"# of a 12-bit camera\n" + b"\n".join(b" ".join(b"%d" % v for v in row.flat) for row in levels)
    (tmp_path / "a.pnm").write_bytes(header + (words if kind < 4 else levels.astype(">u2").tobytes()))
    check(load_image(tmp_path / "a.pnm", max_value=largest), levels / largest)
    check(load_image(tmp_path / "a.pnm"), levels / largest, atol=1e-5)
    with Image.open(tmp_path / "a.pnm") as image:
        check(load_image(image, max_value=largest), levels / largest)
    check(load_image(tmp_path / "a.pnm", max_value=65535), levels / 65535)
    assert len(np.unique(load_image(tmp_path / "a.pnm"))) == len(np.unique(levels))
    with pytest.raises(UserError, match=r"values in \[0, 100\], but got .*max_value"):
        load_image(tmp_path / "a.pnm", max_value=100)


@pytest.mark.parametrize(
    "body", [b"1 2 300", b"1 2 x 300", b"1 2 3e 4", b"1 2 3 4096", b"1 2 3 99999999999", b"1 2 3 -1"]
)
def test_pgm_that_is_no_whole_list_of_numbers(tmp_path, body):
    (tmp_path / "a.pgm").write_bytes(b"P2 2 2 4095\n" + body)
    with pytest.raises(UserError, match="truncated or damaged"):
        load_image(tmp_path / "a.pgm")


@pytest.mark.parametrize(("text", "expected"), [(b"P1 2 2 0 1 1 0", [[1, 0], [0, 1]]), (b"P2 2 1 5\n0 5", [[0, 1]])])
def test_plain_files_of_few_levels(tmp_path, text, expected):
    (tmp_path / "a.pnm").write_bytes(text)
    check(load_image(tmp_path / "a.pnm"), np.array(expected, float))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_colour_tiff_keeps_its_levels(tmp_path, planar):
    samples = noise(3, high=65536, dtype=np.uint16)
    stored = samples if planar == "contig" else np.moveaxis(samples, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, compression="zlib")
    check(load_image(tmp_path / "a.tif"), samples / 65535)


def test_16_bit_cmyk_tiff(tmp_path):
    inks = noise(4, high=65536, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated")
    left = 1 - inks / 65535
    assert np.abs(load_image(tmp_path / "a.tif") - left[..., :3] * left[..., 3:]).max() < 1e-4


def test_16_bit_tiff_where_0_is_white(tmp_path):
    grey = noise(high=65536, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="miniswhite")
    check(load_image(tmp_path / "a.tif"), 1 - grey / 65535)


def test_12_bit_tiff_where_0_is_white(tmp_path):
    grey = noise(high=4096, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="miniswhite")
    check(load_image(tmp_path / "a.tif", max_value=4095), 1 - grey / 4095)
    with pytest.raises(UserError, match=r"values in \[0, 255\]"):
        load_image(tmp_path / "a.tif", max_value=255)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_float_tiff_where_0_is_white(tmp_path, byteorder):
    grey = np.random.default_rng(0).random((HEIGHT, WIDTH), dtype=np.float32)
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="miniswhite", byteorder=byteorder)
    check(load_image(tmp_path / "a.tif"), 1 - grey)


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095), (np.float32, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_whose_colours_are_multiplied_by_their_alpha(tmp_path, dtype, full, channels):
    values = np.random.default_rng(0).random((HEIGHT, WIDTH, channels + 1))
    values[:5, :, -1] = 0
    values[..., :-1] *= values[..., -1:]
    stored = (np.rint(values * full) if full > 1 else values).astype(dtype)
    kind = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=kind, planarconfig="contig", extrasamples=["assocalpha"])
    image = load_image(tmp_path / "a.tif", max_value=4095 if full == 4095 else None)
    check(image, (values[..., :-1] + 1 - values[..., -1:]) * np.ones(3), atol=1e-6 if full == 1 else 2 / full)
    marked = (stored[..., :-1] != 0).any(axis=2) & (stored[..., -1] != 0)
    assert np.array_equal(load_mask(tmp_path / "a.tif", None), marked)


def test_colour_that_its_writer_did_not_name(tmp_path):
    samples = noise(4, high=65536, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples[..., :3], photometric="minisblack", planarconfig="contig")
    check(load_image(tmp_path / "a.tif"), samples[..., :3] / 65535)
    tifffile.imwrite(tmp_path / "b.tif", samples, photometric="minisblack", planarconfig="contig")
    check(load_image(tmp_path / "b.tif"), samples[..., :3] / 65535)


def test_a_fourth_sample_of_unsaid_meaning_is_no_alpha(tmp_path):
    samples = noise(4, high=65536, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["unspecified"])
    check(load_image(tmp_path / "a.tif"), samples[..., :3] / 65535)
    tifffile.imwrite(tmp_path / "b.tif", samples, photometric="rgb", extrasamples=["unassalpha"])
    check(load_image(tmp_path / "b.tif"), over_white(samples[..., :3] / 65535, samples[..., 3] / 65535))


def test_a_tiff_of_many_samples_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """Empty strips cost nothing in the file and all of the memory when they are read."""
    monkeypatch.setattr("ura_hf.model.pillow_images.tiff_samples", lambda *arguments: pytest.fail("read"))
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((40, 30, 100), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(UserError, match=r"TIFF of 100 samples a pixel, but at most 5 are read: .*a\.tif"):
        load_image(tmp_path / "a.tif")


def test_other_deep_colours_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(3, high=65536, dtype=np.uint16), photometric="cielab")
    with pytest.raises(UserError, match=r"not read at this depth \(CIELAB\): .*a\.tif; save it as RGB"):
        load_image(tmp_path / "a.tif")


@pytest.mark.parametrize("channels", [(), (3,)])
def test_float_tiff(tmp_path, channels):
    values = np.random.default_rng(0).random((HEIGHT, WIDTH, *channels), dtype=np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb" if channels else "minisblack")
    check(load_image(tmp_path / "a.tif"), values)


def test_rgb_from_path_text_stream_and_pil(tmp_path):
    rgb = noise(3)
    path = save(Image.fromarray(rgb), tmp_path, "a.png")
    for source in (path, str(path), io.BytesIO(path.read_bytes()), Image.fromarray(rgb), rgb):
        check(load_image(source), rgb / 255)


def test_rgba_lies_over_white(tmp_path):
    rgba = noise(4)
    expected = over_white(rgba[..., :3] / 255, rgba[..., 3] / 255)
    check(load_image(save(Image.fromarray(rgba), tmp_path, "a.png")), expected)
    check(load_image(rgba), expected)


def test_grey_with_alpha_lies_over_white(tmp_path):
    samples = noise(2)
    expected = over_white(samples[..., :1] / 255, samples[..., 1] / 255) * np.ones(3)
    check(load_image(save(Image.fromarray(samples, "LA"), tmp_path, "a.png")), expected)


def test_palette(tmp_path):
    indexed = Image.fromarray(noise(3)).quantize(16)
    check(load_image(save(indexed, tmp_path, "a.png")), np.asarray(indexed.convert("RGB")) / 255)


def test_palette_with_transparency(tmp_path):
    indices = noise(high=2)
    indexed = Image.fromarray(indices, "P")
    indexed.putpalette([10, 20, 30, 200, 100, 50])
    image = load_image(save(indexed, tmp_path, "a.png", transparency=0))
    expected = np.where(indices[..., None] == 0, 1.0, np.array([200, 100, 50]) / 255)
    check(image, expected)


def test_cmyk(tmp_path):
    cmyk = Image.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 0))
    check(load_image(save(cmyk, tmp_path, "a.tif")), np.array([0.0, 1.0, 1.0]) * np.ones((HEIGHT, WIDTH, 1)))


def test_one_bit(tmp_path):
    bits = noise(high=2).astype(bool)
    check(load_image(save(Image.fromarray(bits), tmp_path, "a.png")), bits.astype(float))
    check(load_image(bits), bits.astype(float))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, name):
    rgb = noise(3)
    exif = Image.Exif()
    exif[274] = orientation
    path = save(Image.fromarray(rgb), tmp_path, name, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)) / 255
    check(load_image(path), expected)


def test_exif_orientation_6_turns_clockwise(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    grey = noise()
    path = save(Image.fromarray(grey), tmp_path, "a.png", exif=exif)
    check(load_image(path), np.rot90(grey, -1) / 255)


def test_orientation_of_16_bit_colour_tiff(tmp_path):
    samples = noise(3, high=65536, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    check(load_image(tmp_path / "a.tif"), np.rot90(samples, -1) / 65535)


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("L", (WIDTH, HEIGHT), grey) for grey in (51, 204)]
    path = save(frames[0], tmp_path, "a.gif", save_all=True, append_images=frames[1:])
    check(load_image(path), np.full((HEIGHT, WIDTH), 0.2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_array(dtype):
    values = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(dtype)
    check(load_image(values), values.astype(np.float32))
    check(load_image(values[..., None]), values.astype(np.float32))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((4, 4), 255.0), r"must lie in \[0, 1\], but got \[255, 255\]"),
        (np.full((4, 4), -0.5), r"but got \[-0.5, -0.5\]"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.zeros((4, 4), np.int64), "but got int64"),
        (np.zeros((5, 9, 9), np.uint8), r"but got \(5, 9, 9\)"),
        (np.zeros(9, np.uint8), r"but got \(9,\)"),
        (np.zeros((0, 9), np.uint8), r"but got \(0, 9, 1\)"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "20000x20000 pixels"),
        (42, "but got int"),
    ],
)
def test_wrong_arrays_are_named(source, message):
    with pytest.raises(UserError, match=message):
        load_image(source)


def test_values_over_max_value_are_an_error():
    with pytest.raises(UserError, match=r"in \[0, 4095\], but got \[0, 5000\].*max_value"):
        load_image(np.array([[0, 5000]], np.uint16), max_value=4095)
    with pytest.raises(UserError, match="must be positive, but got 0"):
        load_image(np.array([[0, 1]], np.uint16), max_value=0)


def test_float_tiff_out_of_range(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), 300, np.float32))
    with pytest.raises(UserError, match=r"a\.tif.*\[300, 300\]"):
        load_image(tmp_path / "a.tif")


def test_missing_folder_empty_and_foreign_files(tmp_path):
    with pytest.raises(UserError, match=r"not found: .*none\.png"):
        load_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="got a folder"):
        load_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match=r"empty \(0 bytes\): .*empty\.png"):
        load_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no image at all")
    with pytest.raises(UserError, match=r"not an image that can be read: .*text\.png"):
        load_image(tmp_path / "text.png")


def test_postscript_under_the_name_of_an_image_starts_nothing(tmp_path):
    path = save(Image.fromarray(noise(3)), tmp_path, "a.eps").rename(tmp_path / "evil.png")
    with pytest.raises(UserError, match=r"not an image that can be read: .*evil\.png"):
        load_image(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_kind_of_file_is_read_and_its_endings_are_known(tmp_path, kind):
    grey = np.full((HEIGHT, WIDTH, 3), 51, np.uint8)
    path = tmp_path / f"a{FORMATS[kind][0]}"
    Image.fromarray(grey).save(path, format=kind)
    check(load_image(path), grey / 255, atol=0.02)
    assert {Image.registered_extensions()[ending] for ending in FORMATS[kind]} <= {kind, "MPO"}


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif"])
def test_truncated_file(tmp_path, name):
    path = save(Image.fromarray(noise(3)), tmp_path, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"truncated or damaged: .*{name}: .*replace it or remove it"):
        load_image(path)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_truncated_16_bit_colour_file(tmp_path, kind):
    path, samples = tmp_path / f"a.{kind}", noise(3, high=65536, dtype=np.uint16)
    if kind == "png":
        path.write_bytes(png_bytes(samples))
    else:
        tifffile.imwrite(path, samples, photometric="rgb")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="truncated or damaged"):
        load_image(path)


@pytest.mark.filterwarnings("error")
def test_absurd_size_is_refused_from_the_header_alone(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_bytes(noise(1, dtype=np.uint16), height=MAX_PIXELS // 1000 + 1, width=1000))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError, match=r"too large: .*bomb\.png"):
        load_image(tmp_path / "bomb.png")
    assert before == Image.MAX_IMAGE_PIXELS


def test_mask_takes_any_nonzero_pixel(tmp_path):
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[3, 5], grey[30, 100] = 1, 255
    mask = load_mask(save(Image.fromarray(grey), tmp_path, "m.png"), (HEIGHT, WIDTH))
    assert mask.dtype == bool and np.array_equal(mask, grey > 0)


@pytest.mark.parametrize("quality", [30, 75])
def test_mask_that_jpeg_blurred(tmp_path, quality):
    """Its black is nearly black and its edges ring; what is meant is told at half of white."""
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[9:27, 43:70] = 255
    Image.fromarray(grey).save(tmp_path / "m.jpg", quality=quality)
    assert (np.asarray(Image.open(tmp_path / "m.jpg")) != 0).sum() > 1.2 * (grey > 0).sum()
    assert (load_mask(tmp_path / "m.jpg", None) != (grey > 0)).sum() <= 0.05 * (grey > 0).sum()


def test_mask_ignores_transparent_pixels(tmp_path):
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[:10] = (255, 0, 0, 255)
    rgba[20:] = (255, 0, 0, 0)
    mask = load_mask(save(Image.fromarray(rgba), tmp_path, "m.png"), None)
    assert mask[:10].all() and not mask[10:].any()


def test_mask_of_another_size(tmp_path):
    path = save(Image.new("L", (8, 6)), tmp_path, "m.png")
    with pytest.raises(UserError, match=r"m\.png.*113x37 pixels \(width x height\), but got 8x6"):
        load_mask(path, (HEIGHT, WIDTH))
