"""Takes single files out of archives, safely: only regular files that were asked for, under plain names of ours, and
never more bytes than expected. Standard library only."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from detection.files import no_link
from detection.weights.download.transfer import DownloadError
from detection.weights.zips import open_zip

LIMIT = 2 << 30  # bytes of one member, where its size is not known


def extract_member(archive: Path, member: str, target: Path, size: int = 0) -> None:
    """Writes one member of a .zip or .tar(.gz) to `target`. Raises DownloadError if it is missing or damaged."""
    with _damage_named(archive):
        if zipfile.is_zipfile(archive):
            with open_zip(archive) as pack:
                if member not in pack.namelist():
                    raise DownloadError(f"{archive.name} has no {member}")
                with pack.open(member) as source:
                    _write(source, target, size)
            return
        with tarfile.open(archive) as tar:
            if member not in tar.getnames():
                raise DownloadError(f"{archive.name} has no {member}")
            content = tar.extractfile(member) if tar.getmember(member).isreg() else None
            if content is None:
                raise DownloadError(f"{archive.name}: {member} is no file")
            _write(content, target, size)


def extract_folder(archive: Path, folder: str, target: Path) -> None:
    """Writes the regular files that lie directly in one folder of a .tar(.gz) into the folder `target`."""
    found = 0
    with _damage_named(archive), tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if member.isreg() and path.parent == PurePosixPath(folder):
                source = tar.extractfile(member)
                assert source is not None
                _write(source, target / plain_name(path.name), 0)
                found += 1
    if not found:
        raise DownloadError(f"{archive.name} has no files in {folder}")


def plain_name(name: object) -> str:
    """`name`, if it is nothing but a file name; raises DownloadError for whatever could lead out of a folder."""
    text = str(name)
    if (
        text in ("", ".", "..")
        or PurePosixPath(text).name != text
        or PureWindowsPath(text).name != text
        or "\0" in text
    ):
        raise DownloadError(f"names a file {text!r}, which is no plain file name")
    return text


def _write(source: IO[bytes], target: Path, size: int) -> None:
    left = size or LIMIT
    with open(target, "wb", opener=no_link) as file:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise DownloadError(f"{target.name} is longer than the {size or LIMIT} bytes expected")
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
        raise DownloadError(f"{archive.name} is damaged ({reason})") from None
