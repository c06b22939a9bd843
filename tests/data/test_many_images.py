"""What inputs name that may lie anywhere: folders, patterns, tables; S3 is in tests/deploy."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from conftest import draw_part
from PIL import Image

from ura_hf.data.addresses import Fetched, beside
from ura_hf.data.companions import companions_by_name
from ura_hf.data.many_images import Images, find_images
from ura_hf.data.parquet_images import read_rows
from ura_hf.model.errors import UserError
from ura_hf.model.images import load_image

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "photos"
    for name in ("10.png", "2.png", "sub/1.jpg", ".hidden/3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(name), 90, 30)).save(folder / name)
    (folder / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    return folder


def names(*inputs: object) -> list[str]:
    (found,), _ = find_images(map(str, inputs))
    assert not found.table
    return list(found.names)


def test_folders_and_patterns_give_absolute_paths_once(photos):
    wanted = [str(photos / name) for name in ("2.png", "10.png", "sub/1.jpg")]
    assert names("photos") == names("photos", photos, "photos/2.png") == wanted
    assert names("photos/*") == wanted[:2] and names("photos/**/*.jpg") == wanted[2:]
    assert names(f"file://{photos}/2.png") == wanted[:1]


def test_a_name_with_brackets_is_no_pattern_where_it_exists(photos):
    (photos / "2.png").rename(photos / "a[1].png")
    assert names("photos/a[1].png") == [str(photos / "a[1].png")]


def test_paths_in_tables_are_relative_to_the_table(photos):
    (photos / "m.csv").write_text("image;label\n2.png;good\n../other/3.png;good\n")
    (photos / "m.jsonl").write_text('{"image": "s3://b/4.png"}\n{"image": "/x/5.png"}\n')
    parquet.write_table(pa.table({"path": ["sub/1.jpg"]}), photos / "m.parquet")
    wanted = [
        str(photos / "2.png"),
        str(photos.parent / "other/3.png"),
        "s3://b/4.png",
        "/x/5.png",
        str(photos / "sub/1.jpg"),
    ]
    assert names("photos/m.csv", "photos/m.jsonl", "photos/m.parquet") == wanted
    assert beside("s3://b/c/m.csv", "d/e.png") == "s3://b/c/d/e.png" and beside("s3://b/c/m.csv", "/d.png") == "/d.png"


def test_tables_are_known_in_capitals_and_by_a_pattern(photos):
    (photos / "LIST.CSV").write_text("image\n2.png\n")
    (photos / "b.csv").write_text("image\n10.png\n")
    (photos / "c.jsonl").write_text('{"image": "sub/1.jpg"}\n')
    parquet.write_table(pa.table({"path": ["sub/1.jpg"]}), photos / "P.PARQUET")
    two, ten, one = (str(photos / name) for name in ("2.png", "10.png", "sub/1.jpg"))
    assert names("photos/LIST.CSV", "photos/P.PARQUET") == [two, one] and names("photos/*.PARQUET") == [one]
    assert names("photos/*.CSV") == [two] and names("photos/*.csv") == [ten] and names("photos/*.jsonl") == [one]
    assert names("photos/*.png") == [two, ten]
    assert names("photos/*[gv]") == [two, ten]  # what lies beside images is not taken for a list of them


def test_a_folder_without_images_gives_its_tables(photos, tmp_path):
    (tmp_path / "tables").mkdir()
    data = (photos / "2.png").read_bytes()
    parquet.write_table(pa.table({"img": [data, data, b""]}), tmp_path / "tables/t.parquet", row_group_size=2)
    parquet.write_table(pa.table({"img": [data]}), tmp_path / "tables/_t.parquet")
    table = str(tmp_path / "tables/t.parquet")
    groups, left_out = find_images(["tables"])
    assert not left_out
    assert groups == [Images([f"{table}#1", f"{table}#2"], table), Images([f"{table}#3"], table)]
    assert [part.names for part in groups[0].parts(1)] == [[f"{table}#1"], [f"{table}#2"]]
    first, second = groups[0].read()
    assert str(first) == f"{table}#1" and (load_image(second) == load_image(photos / "2.png")).all()
    with pytest.raises(UserError, match=r"0 bytes\): .*t.parquet#3"):
        load_image(next(iter(groups[1].read())))


def test_rows_that_are_gone_say_so(photos, tmp_path):
    table = str(tmp_path / "t.parquet")
    parquet.write_table(pa.table({"bytes": [b"x"]}), table)
    one, gone = read_rows(table, [f"{table}#1", f"{table}#9"])
    assert one.read() == b"x"
    with pytest.raises(UserError, match="no longer has this row"):
        gone.read()
    Path(table).write_bytes(b"torn")
    (torn,) = read_rows(table, [f"{table}#1"])
    with pytest.raises(UserError, match=r"t.parquet can't be used \(ArrowInvalid"):
        torn.read()


def test_what_is_not_on_a_disk_is_fetched(tmp_path):
    import fsspec

    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "a.png")
    for name in ("a.png", "_MG_1.png", ".hidden.png"):  # cameras begin names with an underscore, too
        fsspec.filesystem("memory").pipe_file(f"/many/{name}", (tmp_path / "a.png").read_bytes())
    (found,), _ = find_images(["memory://many"])
    assert found.names == ["memory:///many/_MG_1.png", "memory:///many/a.png"]
    there, absent = Images([found.names[1], "memory:///many/b.png"]).read()
    assert isinstance(there, Fetched) and load_image(there).shape == (8, 8, 3)
    with pytest.raises(UserError, match="FileNotFoundError"):
        load_image(absent)


@pytest.mark.parametrize(
    ("given", "columns", "said"),
    [
        ("nowhere", {}, "nowhere does not exist: check the address"),
        ("empty", {}, "empty names no images: give a folder, a pattern or a table"),
        ("nothing*", {}, "names no images"),
        ("none://a/b", {}, "none://a/b can't be opened"),
        ("t.parquet", {"picture": ["a.png"]}, "must have a column of paths or of images that is named image, img"),
        ("t.parquet", {"image": [1]}, "must hold paths or encoded images in image, but it holds int64"),
        ("t.parquet", {"image": ["a.png", None]}, "row 2 is empty"),
        ("torn.parquet", {}, "torn.parquet can't be used"),
        ("torn.csv", {}, "must name an image in every row"),
    ],
)
def test_an_input_that_names_no_images_is_refused(tmp_path, monkeypatch, given, columns, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("torn.parquet", "torn.csv"):
        (tmp_path / name).write_text("torn")
    if columns:
        parquet.write_table(pa.table(columns), tmp_path / given)
    with pytest.raises(UserError, match=said.replace("*", ".")):
        find_images([given])


def test_masks_and_heatmaps_below_a_folder_are_no_images(tmp_path):
    for name in ("a/0.png", "b/1.png", "ground_truth/0_mask.png", "out/0_heatmap.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_part(len(name))[0]).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").put(f"{tmp_path}/", "/masked/", recursive=True)
    for place in (str(tmp_path), "memory://masked"):
        (found,), left_out = find_images([place])
        assert [Path(name).name for name in found.names] == ["0.png", "1.png"]
        assert {reason: sorted(path.name for path in paths) for reason, paths in left_out.items()} == {
            "companions": ["0_heatmap.png", "0_mask.png"],
            "other_files": ["notes.txt"],
        }


def test_masks_are_told_by_name_where_nothing_is_read():
    photos = ["a/x.png", "a/x_label.png", "labels/box.png", "b/y.png", "b/z_mask.png", "z.png"]
    apart = {"masks/x.png", "ground_truth/spot/y_mask.png", "a/x-heatmap.jpg", "out/y#2_restored.png"}
    found = companions_by_name(map(PurePosixPath, [*photos, *apart]))
    assert set(map(str, found)) == {*apart, "a/x_label.png"}  # no photo has the name of labels/box.png
