"""What all readers of weights share: one guard around each, and one way to the files that belong to a file. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detection.errors import BadWeightsError, MobileSSDError, quoted
from detection.files import open_regular


@contextmanager
def guarded(path: str | os.PathLike) -> Iterator[None]:
    """Whatever a parser raises on bytes of others becomes one line that names the file."""
    try:
        yield
    except MobileSSDError:
        raise
    except OSError as error:
        raise BadWeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:
        raise BadWeightsError(
            f"{path}: cut short or damaged ({type(error).__name__} while reading); fetch it again"
        ) from error


def read_beside(path: Path, name: str, most: int, offset: int = 0) -> bytes:
    """At most `most` bytes from `offset` on of the file `name` that belongs to `path`. A name may be anybody's: it is a
    plain one, and the file a regular one in the folder of `path`, or in the folder where `path` really lies if both are
    links (as in the cache of Hugging Face).

    Raises BadWeightsError, one line, for any other, and where it is missing.
    """
    if not isinstance(name, str) or not name or "\0" in name or name != os.path.basename(name.replace("\\", "/")):
        raise BadWeightsError(f"{path}: names {quoted(name)}, which is no file of its own folder; it was not opened")
    wanted = path.parent / name
    folders = (path.parent.resolve(), path.resolve().parent)
    if wanted.resolve().parent not in folders or name in (".", ".."):
        raise BadWeightsError(f"{path}: {name} leads out of its folder; it was not opened")
    try:
        with open_regular(wanted) as file:
            file.seek(offset)
            return file.read(max(0, min(most, os.fstat(file.fileno()).st_size - offset)))
    except FileNotFoundError:
        raise BadWeightsError(f"{path}: {name} is missing; put it beside {path.name}") from None
    except OSError as error:
        raise BadWeightsError(f"{path}: {name} cannot be read ({error.strerror or error})") from None


def read_whole(path: Path, most: int, what: str) -> bytes:
    """The bytes of a regular file. Raises BadWeightsError, one line, where there are more than `most`, or it cannot be read;
    what: the kind of file that is never larger."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise BadWeightsError(f"{path}: {size:,} bytes are more than {what} has ({most:,})")
            return file.read()
    except OSError as error:
        raise BadWeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
