"""Every published layout through the one reader, the facts table, and what `uranet data check` finds."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image
from trees import bmad_tree, btad_tree, mvtec_tree, oct_tree, visa_tree

from ura_hf.cli.main import main
from ura_hf.data.check import check_category
from ura_hf.data.datasets import Counts, checkpoint_name, facts, locate_categories, published_counts
from ura_hf.data.reader import read_dataset
from ura_hf.hub.card import make_card
from ura_hf.hub.names import PUBLISHED
from ura_hf.model.errors import UserError


def summary(folder) -> Counts:
    return Counts.of(read_dataset(folder))


def test_facts_add_up_to_what_the_authors_state():
    def totals(key: str) -> tuple[int, int, int]:
        counts = [published_counts(key, name)[0] for name in facts()[key]["categories"]]
        return sum(c.train for c in counts), sum(c.good for c in counts), sum(sum(c.types.values()) for c in counts)

    assert totals("mvtec") == (3629, 467, 1258)
    assert totals("visa") == (8659, 962, 1200)
    assert sum(totals("btad")) == 2540
    assert totals("oct2017") == (26315, 242, 726)
    kinds = [entry["kind"] for entry in facts()["mvtec"]["categories"].values()]
    assert (kinds.count("texture"), kinds.count("object")) == (5, 10)
    assert sum(len(published_counts("mvtec", name)[0].types) for name in facts()["mvtec"]["categories"]) == 73


def test_checkpoints_are_named_as_published():
    names = {checkpoint_name(key, name) for key in ("mvtec", "btad", "oct2017") for name in facts()[key]["categories"]}
    assert names == set(PUBLISHED) and len(names) == 19
    assert checkpoint_name("folder", "ring") == "uranet-ring"


def test_btad_layout_with_mixed_formats(tmp_path):
    root = btad_tree(tmp_path)
    for name, image, mask in (("01", ".bmp", ".png"), ("02", ".png", ".png"), ("03", ".bmp", ".bmp")):
        dataset = read_dataset(root / name)
        assert dataset.name == name
        assert Counts.of(dataset) == Counts(6, 2, {"ko": 2})
        assert {sample.image.suffix for sample in dataset.train + dataset.test} == {image}
        assert {sample.mask.suffix for sample in dataset.test if sample.label} == {mask}
        assert {(sample.label, sample.defect_type) for sample in dataset.train} == {(0, "good")}


def test_oct_layout_trains_on_normal_only(tmp_path):
    dataset = read_dataset(oct_tree(tmp_path))
    assert {sample.image.parent.name for sample in dataset.train} == {"NORMAL"}
    assert Counts.of(dataset) == Counts(6, 2, {"CNV": 2, "DME": 2, "DRUSEN": 2})
    assert {sample.mask for sample in dataset.test} == {None}


def test_bmad_layout(tmp_path):
    assert summary(bmad_tree(tmp_path)) == Counts(6, 2, {"Ungood": 2})


def test_visa_layout_follows_its_split(tmp_path):
    root = visa_tree(tmp_path)
    dataset = read_dataset(root / "pcb1")
    assert Counts.of(dataset) == Counts(6, 2, {"anomaly": 2})
    assert [sample.image.name for sample in dataset.train] == [f"000{index}.JPG" for index in range(6)]
    assert dataset.test[-1].mask == root / "pcb1/Data/Masks/Anomaly/001.png"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root / "split_csv"), "split .*1cls.csv is missing"),
        (lambda root: (root / "pcb1/Data/Images/Normal/0003.JPG").unlink(), r"1 of the files .*0003\.JPG"),
        (lambda root: (root / "split_csv/1cls.csv").write_text("a,b\n"), "must have the columns"),
        (lambda root: (root / "pcb1").rename(root / "board"), "no images of board"),
    ],
)
def test_visa_that_is_not_whole(tmp_path, damage, message):
    root = visa_tree(tmp_path)
    damage(root)
    with pytest.raises(UserError, match=message):
        read_dataset(root / ("board" if (root / "board").exists() else "pcb1"))


def test_defects_in_train_are_refused(tmp_path):
    root = mvtec_tree(tmp_path, ["bottle"]) / "bottle"
    shutil.copytree(root / "test/broken_large", root / "train/broken_large")
    with pytest.raises(UserError, match=r"good images only, but beside good/ it has broken_large \(2 images"):
        read_dataset(root)
    assert len(read_dataset(root, for_training=False).test) == 4


def test_categories_are_found_where_archives_unpack_them(tmp_path):
    mvtec_tree(tmp_path / "mvtec_anomaly_detection", ["bottle", "pill"])
    found = locate_categories("mvtec", tmp_path)
    assert len(found) == 15 and found["pill"] == tmp_path / "mvtec_anomaly_detection/pill"
    assert list(locate_categories("mvtec", tmp_path, ["pill", "bottle"])) == ["bottle", "pill"]
    oct_tree(tmp_path / "CellData/OCT")
    assert locate_categories("oct2017", tmp_path / "CellData") == {"oct2017": tmp_path / "CellData/OCT"}
    kaggle = oct_tree(tmp_path / "archive/OCT2017 ")  # the space is in the archive
    assert locate_categories("oct2017", tmp_path / "archive") == {"oct2017": kaggle}
    assert locate_categories("folder", tmp_path / "mvtec_anomaly_detection").keys() == {"bottle", "pill"}


def test_linked_categories_go_by_their_own_names(tmp_path):
    for line in ("a", "b"):
        mvtec_tree(tmp_path / line, ["bottle"])
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / f"links/line_{line}").symlink_to(tmp_path / line / "bottle")
    found = locate_categories("folder", tmp_path / "links")
    assert found == {name: tmp_path / "links" / name for name in ("line_a", "line_b")}


def test_wrong_roots_say_what_is_there(tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        locate_categories("mvtec", tmp_path / "none")
    with pytest.raises(UserError, match=r"does not look like MVTec AD.*Found no subfolders"):
        locate_categories("mvtec", tmp_path)
    (tmp_path / "mvtec.tar.xz").touch()
    with pytest.raises(UserError, match=r"archive mvtec\.tar\.xz: extract it"):
        locate_categories("mvtec", tmp_path)
    root = mvtec_tree(tmp_path / "data", ["bottle"])
    with pytest.raises(UserError, match=f"itself one category: pass the folder above it, {root}"):
        locate_categories("mvtec", root / "bottle")
    with pytest.raises(UserError, match=r"some of .*zipper, but got 'botle'"):
        locate_categories("mvtec", root, ["botle"])
    with pytest.raises(UserError, match="holds no category"):
        locate_categories("folder", root / "bottle/ground_truth")


def test_check_finds_what_is_wrong(tmp_path):
    root = mvtec_tree(tmp_path, ["bottle"]) / "bottle"
    (root / "ground_truth/broken_large/001_mask.png").unlink()
    image = root / "train/good/002.png"
    image.write_bytes(image.read_bytes()[:300])
    mask = root / "ground_truth/broken_large/000_mask.png"
    Image.new("L", (32, 48)).save(mask)
    check = check_category("mvtec", "bottle", root)
    assert check.differences[0] == "train: 6 images, published 209"
    assert "test, broken_small: 0 images, published 22" in check.differences
    assert len(check.damaged) == 2
    assert str(image) in check.damaged[0] and "damaged" in check.damaged[0]
    assert str(mask) in check.damaged[1] and "64x48" in check.damaged[1] and "32x48" in check.damaged[1]
    assert check.unmasked == [root / "test/broken_large/001.png"]
    assert not check_category("mvtec", "bottle", root, decode=False).damaged


def test_check_finds_black_masks(tmp_path):
    root = mvtec_tree(tmp_path, ["bottle"]) / "bottle"
    mask = root / "ground_truth/broken_large/001_mask.png"
    Image.new("L", (64, 48)).save(mask)
    check = check_category("mvtec", "bottle", root)
    assert check.black == [mask] and not check.damaged and not check.unmasked
    assert any("1 masks of anomalous images are all black" in line and str(mask) in line for line in check.problems)
    assert check.notes[-1] == "1 anomalous images with no mask or a black one are left out of the pixel metrics"


def test_check_of_missing_parts(tmp_path):
    (tmp_path / "cable.tar.xz").touch()
    check = check_category("mvtec", "cable", tmp_path / "cable")
    assert "category cable is missing" in check.error and "cable.tar.xz seems not to be extracted" in check.error
    root = mvtec_tree(tmp_path, ["bottle"]) / "bottle"
    shutil.rmtree(root / "test")
    shutil.rmtree(root / "ground_truth")
    assert "no test images" in check_category("mvtec", "bottle", root).error


def test_check_takes_the_nearest_edition(tmp_path):
    check = check_category("oct2017", "oct2017", bmad_tree(tmp_path), decode=False)
    assert [line.split(":")[0] for line in check.differences] == ["train", "test, good", "test, Ungood"]
    assert check.notes[-1] == "no masks: image metrics only" and not check.unmasked


def test_check_command_on_a_whole_category(tmp_path, monkeypatch, capsys):
    root = mvtec_tree(tmp_path, ["bottle", "pill"])
    whole = Counts(6, 2, {"broken_large": 2})
    monkeypatch.setattr(
        "ura_hf.data.check.published_counts", lambda key, name: [whole] if name == "bottle" else [Counts(7, 2, {})]
    )
    arguments = ["data", "check", "--dataset", "mvtec", "--root", str(root), "--categories"]
    assert main([*arguments, "bottle"]) == 0
    expected = "bottle: 6 to train on; test: 2 good, 2 anomalous, 2 masks, as it should be\n"
    assert capsys.readouterr().out == expected
    assert main([*arguments, "bottle", "pill"]) == 1
    printed = capsys.readouterr().out
    assert "train: 6 images, published 7" in printed and "1 with problems: pill." in printed


def test_real_categories_are_whole(shared_dir, capsys):
    root = shared_dir / "data/mvtec"
    arguments = ["data", "check", "--dataset", "mvtec", "--root", str(root), "--categories", "bottle", "pill"]
    assert main([*arguments, "--quick"]) == 0
    assert capsys.readouterr().out.count("as it should be") == 2


def test_real_oct_sample(shared_dir):
    check = check_category("oct2017", "oct2017", shared_dir / "data/oct2017_sample")
    assert check.counts == Counts(17, 8, {"CNV": 8, "DME": 8, "DRUSEN": 8}) and not check.damaged
    assert check.differences[0] == "train: 17 images, published 26315"


def test_real_magnetic_tile(shared_dir):
    folder = shared_dir / "data/magnetic_tile"
    check = check_category("folder", "magnetic_tile", folder, decode=False)
    assert (check.counts.train, check.counts.good, sum(check.counts.types.values())) == (762, 190, 388)
    assert not check.problems


def test_card_states_the_facts_of_the_dataset(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    text = str(make_card(tmp_path, "me/uranet-visa-candle"))
    assert "license: cc-by-4.0" in text and facts()["visa"]["citation"] in text
