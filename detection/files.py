"""Files that are never half-written: atomic writes, content hashes, and the cache folder; text in any encoding."""

from __future__ import annotations

import codecs
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from detection.errors import BadDataError, MobileSSDError, warn


def home() -> Path:
    """The cache folder: `MOBILESSD_HOME`, else `XDG_CACHE_HOME/mobilessd`, else `~/.cache/mobilessd`."""
    if chosen := os.environ.get("MOBILESSD_HOME"):
        folder, reason = expanded(chosen), f"MOBILESSD_HOME={chosen}: there is no such user"
    else:
        folder = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mobilessd"
        reason = "there is no home folder for the cache (HOME is not set)"
    if folder.parts[0].startswith("~"):
        raise MobileSSDError(f"{reason}: set MOBILESSD_HOME to a folder")
    return folder


def expanded(path: str | os.PathLike) -> Path:
    """With the home folder for a `~` at its beginning; as it is where there is no such user."""
    return Path(os.path.expanduser(path))


def drop_damaged(path: Path) -> None:
    """Takes out of the cache what does not read, and says so once: whoever calls makes it anew from what it was made from."""
    warn(f"{path}: this file of the cache does not read, so it is made anew")
    path.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike, note: str = "") -> Iterator[Path]:
    """Gives a temporary path beside `path`; on a clean exit its content is flushed to the disk and renamed to `path`.

    Whoever reads `path` sees the old file or the new one, whole, also after a kill or a full disk. On an exception
    the temporary file is removed and `path` is untouched. Whatever writes it, others may read it, as the umask says
    (safetensors writes files for the owner alone). note: stands in the temporary name, for who finds it after a kill.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{note}{os.urandom(4).hex()}.part{path.suffix}")
    temporary.open("xb").close()
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: str | os.PathLike, otherwise: str) -> Iterator[None]:
    """Holds a lock of the system's on the file `path`, which is made; it goes with this process, however that ends, and is no
    business of its children. MobileSSDError with the line `otherwise` where another process holds it; no lock where the
    system or the file system has none. A link at `path` is not followed, and nothing is written there."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise MobileSSDError(f"{path}: is a link, where a file of our own is wanted: remove it") from None
        raise
    held = [handle]

    def let_go() -> None:
        while held:
            os.close(held.pop())

    try:
        if _taken(handle):
            raise MobileSSDError(otherwise)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=let_go)  # or it would live as long as some worker of ours
        yield
    finally:
        let_go()


def _taken(handle: int) -> bool:
    """Whether another process holds this file; False where the system or the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary folder beside `path`; on a clean exit it is renamed to `path`, else removed. `path` is there whole or
    not at all. Raises MobileSSDError where it is a file, or a folder that holds something."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise MobileSSDError(f"{path}: is there already; name a folder that is not, or is empty")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` atomically, as UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_output(path: str | os.PathLike, text: str, errors: str = "strict") -> None:
    """Writes `text` as a person asked for it: to standard output where `path` is "-", else to the file, atomically. errors:
    "backslashreplace" where a name that is no valid text must not lose the whole file."""
    if path == "-":
        sys.stdout.write(text)
        return
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def read_text(path: str | os.PathLike) -> str:
    """The text of a file that people or their tools wrote, in any encoding that `decode_text` knows. Raises OSError, and
    UnicodeError where it is no text."""
    with open_regular(path) as file:
        return decode_text(file.read())[0]


def decode_text(data: bytes) -> tuple[str, str]:
    """(the text, its encoding): UTF-8, UTF-16 and UTF-32 with or without a mark (which is left out), as Windows' editors and
    shells write them; else Windows-1252, the Western European guess. Raises UnicodeError where it is no text."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding), encoding
    if b"\0" in data:  # which no text in an encoding of single bytes holds
        encoding = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
        text = data.decode(encoding)
        if any(letter < " " and letter not in "\t\n\r\f\x1a" for letter in text) or data.count(0) * 4 < len(data):
            raise UnicodeError("not text")
        return text, encoding
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        if any(byte < 32 and byte not in b"\t\n\r\f\x1a" for byte in data):
            raise UnicodeError("not text") from None
        return data.decode("cp1252", errors="replace"), "windows-1252"


_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def no_link(path: str, flags: int) -> int:
    """An `opener` for `open`: a link in the place of a file that is ours is an OSError, and not written through."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o666)


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """A regular file, or a link to one, opened for reading. Raises OSError for anything else: a pipe or a device among the
    files of a data set would be waited for, or read, for ever."""
    _check_regular(path, os.stat(path).st_mode)  # opening some devices does something
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_regular(path, os.fstat(handle).st_mode)
        return open(handle, "rb")
    except OSError:
        os.close(handle)
        raise


@contextmanager
def open_json(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A JSON file that somebody named, opened for reading. What the system says against it is BadDataError, one line."""
    try:
        with open_regular(path) as file:
            yield file
    except FileNotFoundError:
        raise BadDataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BadDataError(f"{path}: a folder, where a JSON file is needed") from None
    except OSError as error:
        raise BadDataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _check_regular(path: str | os.PathLike, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is no regular file", os.fspath(path))


def sha256_of(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    import hashlib  # loads OpenSSL, which a start without a download has no need of

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse to sync a folder
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
