"""Where shards are kept: a folder on this machine, or an address. Every file in it is whole or not there."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from detection.errors import MobileSSDError
from detection.files import atomic_write, expanded, locked
from detection.images.addresses import OBJECT_STORES, file_system, is_address, local, said_if_slow, unreachable

LOCK = ".lock"


class Folder(Protocol):
    """A place for shards; `str` is how the person named it."""

    near: bool  # on this machine, where reading costs little

    def sizes(self) -> dict[str, int]:
        """The bytes of each file in it; empty where it does not exist yet."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None:
        """Puts a file there, whole: whoever looks sees none of it or all of it, also after a kill."""

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other runs out, where the place has a way to do that; MobileSSDError where one is at work."""


def open_folder(place: str) -> Folder:
    """The folder at a path or address; it is made when something is written. MobileSSDError for what cannot be one."""
    return RemoteFolder(place) if is_address(place) else LocalFolder(expanded(local(place)))


class LocalFolder:
    """See `Folder`."""

    near = True

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise MobileSSDError(f"{path}: is a file: name a folder for the shards")
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def sizes(self) -> dict[str, int]:
        if not self.path.exists():
            return {}
        return {one.name: one.stat(follow_symlinks=False).st_size for one in os.scandir(self.path)}

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        with atomic_write(self.path / name) as temporary:
            temporary.write_bytes(data)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A lock of the system's, which goes with the process however it ends. What a kill left half-written goes too."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / LOCK, f"{self.path}: another run is at work in this folder: wait for it, or stop it"):
            for left in self.path.glob(".*.part*"):
                left.unlink(missing_ok=True)
            yield


class RemoteFolder:
    """See `Folder`. Two runs at one address do the work twice, and the same work: nothing keeps them apart."""

    near = False

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.files, self.path = file_system(self.address)
        kinds = self.files.protocol
        self.whole = bool(OBJECT_STORES & ({kinds} if isinstance(kinds, str) else set(kinds)))

    def __str__(self) -> str:
        return self.address

    def sizes(self) -> dict[str, int]:
        with self._reaching():
            self.files.invalidate_cache()
            try:
                there = self.files.ls(self.path, detail=True)
            except FileNotFoundError:
                return {}
            return {one["name"].rstrip("/").rpartition("/")[2]: int(one.get("size") or 0) for one in there}

    def read(self, name: str) -> bytes:
        with self._reaching():
            return self.files.cat_file(f"{self.path}/{name}")

    def write(self, name: str, data: bytes) -> None:
        target = f"{self.path}/{name}"
        with self._reaching():
            if self.whole:
                self.files.pipe_file(target, data)
                return
            self.files.makedirs(self.path, exist_ok=True)
            temporary = f"{self.path}/.{name}.{uuid.uuid4().hex[:8]}.part"
            self.files.pipe_file(temporary, data)
            self.files.mv(temporary, target)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            with said_if_slow(self.address):
                yield
        except Exception as error:  # every file system has errors of its own
            raise unreachable(self.address, error) from None
