"""HEIC and DICOM give what they were made from, at the scale that they name; a missing package is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from ura_hf.data.folder import list_images
from ura_hf.inference import Pair, find
from ura_hf.model.errors import UserError
from ura_hf.model.frames import frames
from ura_hf.model.image_processing_uranet import URANetImageProcessor
from ura_hf.model.images import image_size, largest_level, load_image

HEIGHT, WIDTH = 40, 64


def write_dicom(path: Path, pixels: np.ndarray, bits: int = 12, compress: bool = False, **facts: object) -> Path:
    """A DICOM file of frames of grey levels (N, H, W), one grey (H, W) or RGB (H, W, 3)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    is_colour = pixels.shape[-1] == 3
    data.Rows, data.Columns = pixels.shape[-3:-1] if is_colour else pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if is_colour else (1, "MONOCHROME2")
    if is_colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.BitsAllocated = 8 * pixels.itemsize
    data.BitsStored = min(bits, data.BitsAllocated)
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in facts.items():
        setattr(data, name, value)
    if compress:
        data.compress(RLELossless)
    data.save_as(path, enforce_file_format=True)
    return path


def ramp(dtype: type = np.uint16, low: int = 0, high: int = 4095) -> np.ndarray:
    return np.linspace(low, high, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(dtype)


def check(image: np.ndarray, expected: np.ndarray, atol: float = 1e-5) -> None:
    assert image.dtype == np.float32
    np.testing.assert_allclose(
        image, np.repeat(expected[..., None], 3, 2) if expected.ndim == 2 else expected, atol=atol
    )


def write_heif(path: Path, *pictures: np.ndarray, **options: object) -> Path:
    import pillow_heif

    file = pillow_heif.HeifFile()
    for picture in pictures:
        file.add_from_pillow(Image.fromarray(picture))
    file.save(path, quality=-1, **options)
    return path


@pytest.mark.parametrize("channels", [3, 4])
def test_heic(tmp_path, channels):
    picture = np.full((HEIGHT, WIDTH, channels), 255, np.uint8)
    picture[:, : WIDTH // 2, :3] = (200, 40, 40)
    path = write_heif(tmp_path / "a.heic", picture)
    check(load_image(path), picture[..., :3] / 255, atol=0.02)
    assert image_size(path.read_bytes()) == (HEIGHT, WIDTH)


def test_heic_comes_upright(tmp_path):
    """The container's own rotation counts, and the EXIF orientation that phones write beside it does not count again."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    try:
        picture = Image.fromarray(np.repeat(np.linspace(0, 255, WIDTH).astype(np.uint8)[None], HEIGHT, 0)).convert(
            "RGB"
        )
        exif = picture.getexif()
        exif[274] = 6
        picture.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=-1)
    finally:
        Image.OPEN.pop("HEIF", None)
    image = load_image(tmp_path / "a.heic")
    assert image.shape == (WIDTH, HEIGHT, 3) and image[0].mean() < 0.1 and image[-1].mean() > 0.9


def test_dicom_without_a_window_is_on_the_scale_of_its_bits(tmp_path):
    check(load_image(write_dicom(tmp_path / "a.dcm", ramp())), ramp() / 4095)
    signed = ramp(np.int16, -2048, 2047)
    check(load_image(write_dicom(tmp_path / "b.dcm", signed)), (signed + 2048) / 4095)
    eight = ramp(np.uint8, 0, 255)
    check(load_image(write_dicom(tmp_path / "c.dcm", eight)), eight / 255)


def test_dicom_is_shown_through_its_window(tmp_path):
    stored = ramp()
    facts = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 1000, "WindowWidth": 501}
    shown = ((stored * 2.0 - 1024 - 999.5) / 500 + 0.5).clip(0, 1)  # PS3.3 C.11.2.1.2
    check(load_image(write_dicom(tmp_path / "a.dcm", stored, **facts)), shown)
    inverted = write_dicom(tmp_path / "b.dcm", stored, PhotometricInterpretation="MONOCHROME1", **facts)
    check(load_image(inverted), 1 - shown)
    assert largest_level(inverted) is None


def test_a_value_range_stands_in_place_of_the_window(tmp_path):
    stored = ramp()
    facts = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    wanted = ((stored - 1024.0 + 200) / 1200).clip(0, 1)
    path = write_dicom(tmp_path / "a.dcm", stored, **facts)
    check(load_image(path, value_range=(-200, 1000)), wanted)
    inverted = write_dicom(tmp_path / "b.dcm", stored, PhotometricInterpretation="MONOCHROME1", **facts)
    check(load_image(inverted, value_range=(-200, 1000)), 1 - wanted)


def test_dicom_with_tables(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 12], [4095 - level for level in range(4096)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    path = write_dicom(tmp_path / "a.dcm", ramp(), VOILUTSequence=[table])
    check(load_image(path), 1 - ramp() / 4095)
    enhanced, lut = pydicom.Dataset(), pydicom.Dataset()
    lut.WindowCenter, lut.WindowWidth = 2048, 1025
    enhanced.FrameVOILUTSequence = [lut]
    path = write_dicom(tmp_path / "b.dcm", ramp(), SharedFunctionalGroupsSequence=[enhanced])
    check(load_image(path), ((ramp() - 2047.5) / 1024 + 0.5).clip(0, 1))


def test_dicom_in_colour_compressed_and_without_its_head(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    check(load_image(write_dicom(tmp_path / "a.dcm", rgb)), rgb / 255)
    check(load_image(write_dicom(tmp_path / "b.dcm", ramp(), compress=True)), ramp() / 4095)
    table = {"Descriptor": [256, 0, 16], "Data": (np.arange(256) * 257).astype("<u2").tobytes()}
    colours = ("Red", "Green", "Blue")
    palette = {f"{name}PaletteColorLookupTable{part}": value for name in colours for part, value in table.items()}
    path = write_dicom(tmp_path / "c.dcm", ramp(np.uint8, 0, 255), PhotometricInterpretation="PALETTE COLOR", **palette)
    check(load_image(path), ramp(np.uint8, 0, 255) / 255)


@pytest.mark.parametrize("name", ["a.heic", "a.dcm"])
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    if name == "a.heic":
        write_heif(path, np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    else:
        write_dicom(path, ramp())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert frames(path) == [path]
    with pytest.raises(UserError, match=rf"truncated or damaged: .*{name}"):
        load_image(path)
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    with pytest.raises(UserError, match=r"damaged: .*text\.dcm"):
        load_image(tmp_path / "text.dcm")


@pytest.mark.parametrize(
    ("name", "module", "package"), [("a.heic", "pillow_heif", "pillow-heif"), ("a.dcm", "pydicom", "pydicom")]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, module, package):
    path = tmp_path / name
    write_heif(path, np.zeros((8, 8, 3), np.uint8)) if module == "pillow_heif" else write_dicom(path, ramp())
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        UserError, match=rf"{name} is a .* needs the package {package}, .*: run pip install {package}\."
    ):
        load_image(path)


def test_they_are_listed_and_go_through_the_model(tmp_path):
    write_heif(tmp_path / "1.heic", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    write_dicom(tmp_path / "2.dcm", ramp())
    assert [path.name for path in list_images(tmp_path)] == ["1.heic", "2.dcm"]
    from conftest import tiny_config

    from ura_hf import URANetForAnomalyDetection

    model = URANetForAnomalyDetection(tiny_config()).eval()
    model.backbone.is_fitted = True
    found = list(find(Pair(model, URANetImageProcessor(size=64)), list_images(tmp_path)))
    assert [one.size for one in found] == [(HEIGHT, WIDTH)] * 2


def test_transformers_asks_for_no_optional_package():
    """It would refuse to load a checkpoint's own code where a package is missing that an import statement names."""
    from conftest import ROOT
    from transformers.dynamic_module_utils import get_imports

    asked = {name for path in (ROOT / "ura_hf/model").glob("*.py") for name in get_imports(path)}
    assert "numpy" in asked and not asked & {"tifffile", "pillow_heif", "pydicom", "av"}
