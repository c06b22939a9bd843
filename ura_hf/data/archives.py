"""Safe unpacking of an uploaded zip: checked as a whole before anything is written, and counted again while it is."""

from __future__ import annotations

import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..model.errors import UserError

MIB = 1 << 20
JUNK = frozenset(
    {"thumbs.db", "desktop.ini"}
)  # beside hidden files and __MACOSX, what systems put into zips by themselves
_MAX_DEPTH, _MAX_NAME = 12, 200  # folders in one another, bytes of one part of a name
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


@dataclass(frozen=True)
class ZipLimits:
    """The most that is unpacked.

    Args:
        files: Files in all.
        total: Their size unpacked [bytes].
        ratio: Unpacked over packed size; only asked of more than `ratio_from` bytes, since blank masks pack very well.
    """

    files: int = 2000
    total: int = 1024 * MIB
    ratio: float = 100.0
    ratio_from: int = 64 * MIB


@dataclass(frozen=True)
class Upload:
    """A file as its sender names it (with `/` between folders of a zip), and where it lies here."""

    name: str
    path: Path


@dataclass
class Gathered:
    """Uploaded files, zips unpacked; `damaged` holds (name, reason) of each file that a zip holds in a damaged form."""

    files: list[Upload] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)


def gather(uploads: Iterable[Path], folder: Path, limits: ZipLimits | None = None) -> Gathered:
    """Loose files as they are, and the files of every zip among them, unpacked below `folder`; one limit for all together.

    Raises:
        UserError: A zip is unreadable, too large, or its names lead outside of it.
    """
    limits = limits or ZipLimits()
    gathered, used = Gathered(), 0
    for index, upload in enumerate(uploads):
        if upload.suffix.lower() == ".zip":
            left = ZipLimits(limits.files - len(gathered.files), limits.total - used, limits.ratio, limits.ratio_from)
            unpacked = unpack(upload, folder / str(index), left)
            used += sum(file.path.stat().st_size for file in unpacked.files)
            gathered.files += unpacked.files
            gathered.damaged += unpacked.damaged
        else:
            gathered.files.append(Upload(upload.name, upload))
    if len(gathered.files) + len(gathered.damaged) > limits.files:
        raise UserError(f"at most {limits.files} files are taken at once, but got {len(gathered.files)}: send fewer.")
    gathered.files = _with_unique_names(gathered.files)
    return gathered


def _with_unique_names(files: list[Upload]) -> list[Upload]:
    """Files of one name, from several zips or folders, get a number, so that each can be chosen alone."""
    taken: set[str] = set()
    unique = []
    for file in files:
        name, number = file.name, 1
        while name in taken:
            number += 1
            path = PurePosixPath(file.name)
            name = str(path.with_stem(f"{path.stem} ({number})"))
        taken.add(name)
        unique.append(Upload(name, file.path))
    return unique


def unpack(archive: Path, folder: Path, limits: ZipLimits | None = None) -> Gathered:
    """Unpack a zip into `folder` in its own subfolders; hidden files and those that systems add are left out.

    Every name and the declared sizes are checked before the first byte is written; no entry can give more than it declares,
    as the methods are left out by which Python unpacks more than was asked for.

    Raises:
        UserError: It is no zip, encrypted, beyond the limits, or a name is absolute, leads outside or is a link.
    """
    name, limits = archive.name, limits or ZipLimits()
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [(entry, _target(entry, name)) for entry in opened.infolist() if not entry.is_dir()]
            entries = [(entry, parts) for entry, parts in entries if not _is_junk(parts)]
            _check_sizes([entry for entry, _ in entries], name, archive.stat().st_size, limits)
            _check_names([parts for _, parts in entries], name)
            gathered = Gathered()
            for entry, parts in entries:
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with opened.open(entry) as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
                except (*DAMAGE, OSError, ValueError):
                    target.unlink(missing_ok=True)
                    gathered.damaged.append(("/".join(parts), f"damaged in {name}: pack it again"))
                    continue
                gathered.files.append(Upload("/".join(parts), target))
    except (*DAMAGE, UnicodeDecodeError) as error:
        raise UserError(
            f"{name} is not a zip that can be read: pack the files again, or send them one by one."
        ) from error
    if not gathered.files and not gathered.damaged:
        raise UserError(f"{name} holds no files: pack the images into it.")
    return gathered


def _target(entry: zipfile.ZipInfo, archive: str) -> tuple[str, ...]:
    """The parts of an entry's name, after the checks that keep it inside of the folder."""
    if entry.flag_bits & 1:
        raise UserError(f"{archive} is encrypted: pack the files without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(
            f"{archive} is packed by a method that is not taken: pack the files with deflate, as most programs do."
        )
    raw = _name_of(entry).replace("\\", "/")  # some Windows tools write backslashes
    parts = tuple(part for part in raw.split("/") if part not in ("", "."))
    outside = raw.startswith("/") or ".." in parts or any(":" in part or _is_odd(part) for part in parts)
    if outside or not parts:
        raise UserError(
            f"{archive} holds the name {entry.orig_filename[:80]!r}, which leads outside of it: "
            "pack the files again with plain names."
        )
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise UserError(f"{archive} holds a link, {'/'.join(parts)[:80]}: pack the files themselves.")
    if len(parts) > _MAX_DEPTH or any(len(part.encode()) > _MAX_NAME for part in parts):
        raise UserError(f"{archive} holds a name that is too long or too deep, {parts[0][:40]}...: shorten it.")
    return parts


def _name_of(entry: zipfile.ZipInfo) -> str:
    """The entry's name; macOS writes UTF-8 without saying so."""
    if entry.flag_bits & 0x800:
        return entry.orig_filename
    try:
        return entry.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.orig_filename


def _is_odd(part: str) -> bool:
    """Whether a name holds characters that nobody sees, or that break lines."""
    return any(not one.isprintable() and unicodedata.category(one) != "Zs" for one in part)  # spaces of any script


def _is_junk(parts: tuple[str, ...]) -> bool:
    return parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts) or parts[-1].lower() in JUNK


def _check_sizes(entries: list[zipfile.ZipInfo], archive: str, packed: int, limits: ZipLimits) -> None:
    total = sum(entry.file_size for entry in entries)
    if len(entries) > limits.files:
        raise UserError(
            f"{archive} holds {len(entries)} files, but at most {max(limits.files, 0)} are taken: send fewer."
        )
    if total > limits.total:
        raise UserError(
            f"{archive} would unpack to {total / MIB:,.0f} MiB, but at most {max(limits.total, 0) / MIB:,.0f} MiB are "
            "taken: send fewer or smaller images."
        )
    if total > limits.ratio_from and total > limits.ratio * packed:
        raise UserError(
            f"{archive} would unpack to {total / packed:,.0f} times its size, which images don't: pack the images themselves."
        )


def _check_names(names: list[tuple[str, ...]], archive: str) -> None:
    """No name twice, also not in another case, and none that is both a file and a folder."""
    files = {tuple(part.casefold() for part in parts) for parts in names}
    folders = {parts[:depth] for parts in files for depth in range(1, len(parts))}
    if len(files) < len(names) or files & folders:
        raise UserError(f"{archive} holds a name twice: pack the files again with different names.")
