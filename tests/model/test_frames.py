"""Every page and frame of a file is an image of its own, in its order and with its own pixels; nothing is left out silently."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_special_images import ramp, write_dicom, write_heif

import ura_hf
from ura_hf.model import frames as frames_module
from ura_hf.model.errors import UserError
from ura_hf.model.frames import Frame, all_frames, frames
from ura_hf.model.images import load_image
from ura_hf.model.video import MOST_SKIPPED, Video, upright

HEIGHT, WIDTH = 48, 64


def levels(count: int) -> list[int]:
    return [20 + 200 * index // count for index in range(count)]


def pictures(count: int = 3) -> list[np.ndarray]:
    return [np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in levels(count)]


def write_video(path: Path, count: int = 30, codec: str = "libx264", group: int = 12, **options: str) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", group
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        for picture in pictures(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write(folder: Path, kind: str) -> Path:
    path = folder / f"a.{kind}"
    if kind == "heic":
        return write_heif(path, *pictures())
    if kind == "dcm":
        return write_dicom(path, np.stack([np.full((HEIGHT, WIDTH), level, np.uint8) for level in levels(3)]))
    if kind in ("mp4", "mov", "mkv", "avi"):
        return write_video(path, 3, "mpeg4" if kind == "avi" else "libx264")
    if kind == "16bit.tif":
        tifffile.imwrite(path, np.stack(pictures()).astype(np.uint16) * 257, photometric="rgb")
        return path
    first, *others = map(Image.fromarray, pictures())
    options = {"webp": {"lossless": True}, "avif": {"quality": 100}}.get(kind, {})
    first.save(path, save_all=True, append_images=others, duration=40, **options)
    return path


def level_of(source: object) -> float:
    image = load_image(source)
    assert image.shape == (HEIGHT, WIDTH, 3) and np.ptp(image) < 0.05
    return 255 * float(image.mean())


KINDS = ["tif", "16bit.tif", "gif", "png", "webp", "heic", "dcm", "mp4", "mov", "mkv", "avi"]
KINDS += ["avif"] if ".avif" in Image.registered_extensions() else []


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_read(tmp_path, kind):
    path = write(tmp_path, kind)
    found = frames(path)
    assert [str(one) for one in found] == [f"{path}#{number}" for number in (1, 2, 3)]
    assert [level_of(one) for one in found] == pytest.approx(levels(3), abs=5)
    assert [level_of(one) for one in reversed(found)] == pytest.approx(levels(3)[::-1], abs=5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_itself_is_its_first_frame_and_says_so(tmp_path, kind, caplog):
    path = write(tmp_path, kind)
    with caplog.at_level(logging.WARNING):
        assert level_of(path) == pytest.approx(levels(3)[0], abs=5)
    assert f"{path} holds several images, and only the first is read" in caplog.text
    caplog.clear()
    load_image(frames(path)[1])
    assert not caplog.text


def test_which_ones(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    assert [one.number for one in frames(path, "every-10")] == [1, 11, 21]
    assert [one.number for one in frames(path, "first")] == [1]
    assert len(all_frames([path, "http://no.where/a.tif", tmp_path / "none.png"])) == 32
    for wrong in ("every-0", "every", "3", "last"):
        with pytest.raises(UserError, match=f"frames must be all, first or every-N .* got '{wrong}'"):
            frames(path, wrong)


def test_a_file_of_one_image_stays_itself(tmp_path, caplog):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("no image at all")
    for source in (tmp_path / "a.png", tmp_path / "text.png", str(tmp_path / "a.png"), np.zeros((8, 8))):
        assert frames(source)[0] is source and len(frames(source)) == 1
    load_image(tmp_path / "a.png")
    assert not caplog.text


def test_the_views_of_a_phones_jpeg_are_one_photo(tmp_path, caplog):
    first, *others = map(Image.fromarray, pictures())
    first.save(tmp_path / "a.mpo", save_all=True, append_images=others)
    assert frames(tmp_path / "a.mpo") == [tmp_path / "a.mpo"]
    load_image(tmp_path / "a.mpo")
    assert not caplog.text


def test_thumbnails_among_the_pages_are_left_out(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for index, picture in enumerate(pictures()):
            file.write(picture, photometric="rgb", subfiletype=int(index == 1))
    assert [one.number for one in frames(tmp_path / "a.tif")] == [1, 3]
    assert [level_of(one) for one in frames(tmp_path / "a.tif")] == pytest.approx(levels(3)[::2])


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_thumbnail_may_come_first(tmp_path, depth, caplog):
    path, scale = tmp_path / "a.tif", np.iinfo(depth).max // 255
    with tifffile.TiffWriter(path) as file:
        for index, picture in enumerate(pictures(2)):
            file.write(picture.astype(depth) * scale, photometric="rgb", subfiletype=int(index == 0))
    assert frames(path) == [path]
    assert level_of(path) == level_of(path.read_bytes()) == pytest.approx(levels(2)[1])
    assert not caplog.text


def test_pages_turn_by_their_own_orientation(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for orientation in (1, 6):
            file.write(pictures()[0], photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    assert [load_image(one).shape[:2] for one in frames(tmp_path / "a.tif")] == [(HEIGHT, WIDTH), (WIDTH, HEIGHT)]


@pytest.mark.parametrize("order", ["forwards", "backwards", "far jumps"])
def test_a_video_in_any_order(tmp_path, order):
    count = 3 * MOST_SKIPPED
    found = frames(write_video(tmp_path / "a.mp4", count))
    numbers = {"forwards": range(count), "backwards": range(count - 1, -1, -7), "far jumps": (0, count - 1, 5, 5, 60)}[
        order
    ]
    assert [level_of(found[number]) for number in numbers] == pytest.approx([levels(count)[n] for n in numbers], abs=4)


REORDERED = {
    "mpeg4.avi": ("mpeg4", {"bf": "2"}),
    "h264.avi": ("libx264", {"bf": "2"}),
    "mjpeg.avi": ("mjpeg", {}),
    "h264.mkv": ("libx264", {"bf": "2"}),
    "open-group.mp4": ("libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0"}),
}


@pytest.mark.parametrize("name", REORDERED)
def test_frames_are_numbered_as_they_are_decoded(tmp_path, name):
    import av

    count, (codec, options) = 2 * MOST_SKIPPED, REORDERED[name]
    path = write_video(tmp_path / name, count, codec, **options)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    found = frames(path)
    assert len(found) == len(expected) == count
    order = [*range(count), *range(count - 1, -1, -3), 40, 3, 3, count - 1]
    assert [level_of(found[number]) for number in order] == pytest.approx([expected[n] for n in order], abs=0.01)


def test_a_frame_that_is_damaged_costs_no_others(tmp_path):
    import av

    path = write_video(tmp_path / "a.avi", 12, "mjpeg")
    with av.open(str(path)) as container:
        place, size = [(packet.pos, packet.size) for packet in container.demux() if packet.size][5]
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)
    found = frames(path)
    with pytest.raises(UserError, match=r"damaged: .*a\.avi#6"):
        load_image(found[5])
    rest = [*range(5), *range(6, 12), 2, 8]
    assert [level_of(found[number]) for number in rest] == pytest.approx([levels(12)[n] for n in rest], abs=2)


def test_a_video_that_is_read_in_order_is_opened_and_decoded_once(tmp_path):
    found = frames(write_video(tmp_path / "a.mp4"))
    load_image(found[0])
    reader = frames_module._last.reader
    decoder = reader._frames
    for one in found[1:]:
        load_image(one)
    assert frames_module._last.reader is reader and reader._frames is decoder


def test_threads_read_side_by_side(tmp_path):
    found, seen = frames(write_video(tmp_path / "a.mp4")), {}
    threads = [threading.Thread(target=lambda n=n: seen.update({n: level_of(found[n])})) for n in range(0, 30, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [seen[n] for n in range(0, 30, 5)] == pytest.approx(levels(30)[::5], abs=4)


def test_a_phones_video_comes_upright():
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[0] = 255  # the upper edge; turned by 90 degrees against the clock it is on the left
    for degrees, edge in ((0, np.s_[0]), (90, np.s_[:, 0]), (180, np.s_[-1]), (-90, np.s_[:, -1])):
        turned = upright(SimpleNamespace(rotation=degrees, to_ndarray=lambda format: picture))
        assert turned[edge].min() == 255 and turned.sum() == picture.sum()


def test_a_changed_file_is_read_anew(tmp_path):
    path = write(tmp_path, "gif")
    assert level_of(frames(path)[0]) == pytest.approx(levels(3)[0], abs=5)
    other = [Image.new("RGB", (WIDTH, HEIGHT), (200 + n,) * 3) for n in range(2)]
    other[0].save(path, save_all=True, append_images=other[1:])
    assert level_of(Frame(path, 1)) == pytest.approx(200, abs=5)


def test_damaged_absent_and_bytes(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    data = path.read_bytes()
    with pytest.raises(UserError, match="is a video, of which frames are read from a path alone"):
        load_image(data)
    path.write_bytes(data[: len(data) // 3])
    assert frames(path) == [path]
    with pytest.raises(UserError, match=r"truncated or damaged: .*a\.mp4"):
        load_image(path)
    with pytest.raises(UserError, match=r"not found: .*none\.tif"):
        load_image(Frame(tmp_path / "none.tif", 2))
    tif = write(tmp_path, "tif")
    with pytest.raises(UserError, match=r"damaged: .*a\.tif#9"):
        load_image(Frame(tif, 9))


def test_a_video_without_frames_is_one_image_that_says_so(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4")
    monkeypatch.setattr(Video, "numbers", lambda _: [])
    assert frames(path) == frames(path, "first") == frames(path, "every-3") == [path]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 2)
    monkeypatch.setitem(sys.modules, "av", None)
    assert frames(path) == [path]
    with pytest.raises(UserError, match=r"a\.mp4 is a video, which needs the package av, .*: run pip install av\."):
        load_image(path)


def test_a_value_range_holds_for_every_page(tmp_path):
    celsius = np.stack([np.full((8, 8), value, np.float32) for value in (-20, 50, 120)])
    tifffile.imwrite(tmp_path / "a.tif", celsius, photometric="minisblack")
    shown = [float(load_image(one, value_range=(-20, 120)).mean()) for one in ura_hf.frames(tmp_path / "a.tif")]
    assert shown == pytest.approx([0, 0.5, 1])
    write_dicom(tmp_path / "a.dcm", np.stack([ramp(), ramp()[::-1]]))
    assert load_image(Frame(tmp_path / "a.dcm", 2), max_value=4095)[0].mean() > 0.9
