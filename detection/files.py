"""Files that are never half-written: atomic writes, content hashes, and the cache folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def home() -> Path:
    """The cache folder: `MOBILESSD_HOME`, else `XDG_CACHE_HOME/mobilessd`, else `~/.cache/mobilessd`."""
    if chosen := os.environ.get("MOBILESSD_HOME"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobilessd"


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on a clean exit its content is flushed to the disk and renamed to `path`.

    Whoever reads `path` sees the old file or the new one, whole, also after a kill or a full disk. On an exception
    the temporary file is removed and `path` is untouched. Whatever writes it, others may read it, as the umask says
    (safetensors writes files for the owner alone).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part{path.suffix}")
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


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` atomically, as UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
