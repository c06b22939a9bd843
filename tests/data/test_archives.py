"""Uploaded zips: what is inside comes out; bombs, tricks in names and damage end in a sentence, with nothing written outside."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from ura_hf import UserError
from ura_hf.data.archives import MIB, ZipLimits, gather, unpack


def make_zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def refuse(archive: Path, folder: Path, words: str, limits: ZipLimits | None = None) -> None:
    """The zip is refused in one sentence with these words and no path of the server, and nothing was written."""
    with pytest.raises(UserError, match=words) as caught:
        unpack(archive, folder / "inside", limits)
    assert str(folder) not in str(caught.value)
    assert [path for path in folder.rglob("*") if path.is_file() and path != archive] == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_more_than_is_asked_for_are_refused(tmp_path, method):
    """Python reads all of a bzip2 entry at once, whatever size it declares: some hundred bytes would fill the memory."""
    path = make_zip(tmp_path / "p.zip", {"b.png": b"x", "a.png": bytes(10**6)}, method)
    refuse(path, tmp_path, "pack the files with deflate")


def test_a_name_that_is_no_utf8_is_one_sentence(tmp_path):
    path = make_zip(tmp_path / "p.zip", {"ü.png": b"x"})
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xff"))
    refuse(path, tmp_path, "not a zip that can be read")


def test_files_of_one_name_can_be_told_apart(tmp_path):
    zips = [make_zip(tmp_path / f"{n}.zip", {"001.png": bytes([n])}) for n in (1, 2)]
    found = gather(zips, tmp_path / "inside").files
    assert [file.name for file in found] == ["001.png", "001 (2).png"]
    assert [file.path.read_bytes() for file in found] == [b"\x01", b"\x02"]


def test_files_come_out_in_their_folders(tmp_path):
    archive = make_zip(
        tmp_path / "a.zip",
        {
            "set/good/1.png": b"one",
            "set\\bad\\2.png": b"two",
            "__MACOSX/set/._1.png": b"",
            ".DS_Store": b"",
            "Thumbs.db": b"x",
        },
    )
    found = unpack(archive, tmp_path / "out")
    assert [file.name for file in found.files] == ["set/good/1.png", "set/bad/2.png"]
    assert (tmp_path / "out/set/bad/2.png").read_bytes() == b"two"
    assert [file.path.read_bytes() for file in found.files] == [b"one", b"two"] and not found.damaged


def test_names_of_other_scripts_and_of_macos_are_taken(tmp_path):
    """With spaces that are not ASCII's; and in UTF-8 of which the zip says nothing."""
    names = ["\u90e8\u54c1\u3000001.png", "Shot at 10.15.30\u202fAM.png"]
    assert [
        file.name for file in unpack(make_zip(tmp_path / "a.zip", dict.fromkeys(names, b"x")), tmp_path / "o").files
    ] == names
    archive = make_zip(tmp_path / "b.zip", {"Pr\u00fcfling.png": b"x"})
    data = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place + 1] &= ~0x08  # the flag of UTF-8
    archive.write_bytes(data)
    assert [file.name for file in unpack(archive, tmp_path / "p").files] == ["Pr\u00fcfling.png"]


@pytest.mark.parametrize(
    "name",
    [
        "a\u202egnp.exe.png",
        "a\u2028.png",
        "../evil.png",
        "a/../../evil.png",
        "/etc/evil.png",
        "..\\evil.png",
        "C:\\evil.png",
        "\\\\host\\evil.png",
        "a\n.png",
    ],
)
def test_names_that_lead_outside_are_refused(tmp_path, name):
    refuse(make_zip(tmp_path / "a.zip", {"ok.png": b"x", name: b"evil"}), tmp_path, "leads outside")


def test_a_null_byte_does_not_hide_the_rest_of_a_name(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"okX/../../evil.png": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"okX/", b"ok\0/"))
    refuse(archive, tmp_path, "leads outside|not a zip")


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refuse(tmp_path / "a.zip", tmp_path, "holds a link")


def test_a_bomb_is_refused_by_size_by_ratio_and_by_count(tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", {"zeros.png": bytes(3 * MIB)})
    refuse(bomb, tmp_path, "3 MiB, but at most 2 MiB", ZipLimits(total=2 * MIB))
    refuse(bomb, tmp_path, "times its size", ZipLimits(ratio_from=MIB))
    assert unpack(bomb, tmp_path / "fine").files  # small enough for blank masks to pack as well as they like
    bomb.unlink(), (tmp_path / "fine/zeros.png").unlink()
    many = make_zip(tmp_path / "many.zip", {f"{i}.png": b"x" for i in range(6)})
    refuse(many, tmp_path, "holds 6 files, but at most 5", ZipLimits(files=5))


def test_a_bomb_that_lies_about_its_size_gives_no_more_than_it_declares(tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", {"zeros.png": bytes(MIB)})
    real, declared = MIB.to_bytes(4, "little"), (1000).to_bytes(4, "little")
    bomb.write_bytes(bomb.read_bytes().replace(real, declared))
    found = unpack(bomb, tmp_path / "out")
    assert not found.files and [name for name, _ in found.damaged] == ["zeros.png"]
    assert not list((tmp_path / "out").iterdir())


def test_one_damaged_file_leaves_the_others(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"1.png": b"first", "2.png": b"second"}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"second", b"secomd"))
    found = unpack(archive, tmp_path / "out")
    assert [file.name for file in found.files] == ["1.png"]
    assert found.damaged == [("2.png", "damaged in a.zip: pack it again")]


def test_what_is_no_zip_is_said(tmp_path):
    for data in (b"", b"text", b"PK\x03\x04 torn"):
        (tmp_path / "a.zip").write_bytes(data)
        refuse(tmp_path / "a.zip", tmp_path, "a.zip is not a zip")
    refuse(make_zip(tmp_path / "a.zip", {}), tmp_path, "holds no files")


def test_an_encrypted_zip_is_said(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"1.png": b"x"})
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(bytes(data))
    refuse(archive, tmp_path, "encrypted")


@pytest.mark.parametrize("names", [("a.png", "A.png"), ("a", "a/b.png")])
def test_names_that_would_overwrite_each_other_are_refused(tmp_path, names):
    refuse(make_zip(tmp_path / "a.zip", dict.fromkeys(names, b"x")), tmp_path, "a name twice")


def test_loose_files_and_zips_share_the_limits(tmp_path):
    (tmp_path / "loose.png").write_bytes(b"loose")
    zips = [make_zip(tmp_path / f"{i}.zip", {"a.png": b"x" * 10, "b.png": b"y" * 10}) for i in range(2)]
    found = gather([tmp_path / "loose.png", *zips], tmp_path / "out")
    assert [file.name for file in found.files] == ["loose.png", "a.png", "b.png", "a (2).png", "b (2).png"]
    assert len({file.path for file in found.files}) == 5
    with pytest.raises(UserError, match="at most 1 are taken"):
        gather([tmp_path / "loose.png", *zips], tmp_path / "less", ZipLimits(files=4))
    with pytest.raises(UserError, match="MiB are taken"):
        gather(zips, tmp_path / "less", ZipLimits(total=30))
