"""The door to addresses: https:// by the standard library, s3://bucket/key and others through fsspec, which is imported
when the first one is met. No message shows a password or a key of an address.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from detection.errors import BadImageError, MissingPackageError, MobileSSDError, install_line, need, shown, warn
from detection.masking import without_secrets

TRIES = 3  # to read an image whose store does not answer
PAUSE = 2.0  # seconds before the second try; twice as many before the third
SILENCE = 5.0  # seconds without an answer of a store, after which it is said
# Of s3fs, which tries five times itself, as stores ask for when they are busy: botocore's own five tries of 15 s for each of
# them, and ours around both, were minutes before a store that takes connections and says nothing was given up.
S3_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 1}}
# A single PUT of these appears whole or not at all, and renaming would be a copy.
HTTP = ("http://", "https://")
NO_IMAGE = ("multipart/", "video/")  # what a web server calls something that goes on
LARGEST = 1 << 30  # bytes of one image
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "r2"}


def is_address(name: str) -> bool:
    """Whether a name goes through fsspec; file:// addresses are `local` paths."""
    return "://" in name and not name.startswith(("file://", "local://"))


def bare(name: str) -> str:
    """A web address without its query, where its ending stands; any other name as it is."""
    return name.partition("#")[0].partition("?")[0] if name.startswith(HTTP) else name


def local(name: str) -> str:
    """The path of a file:// address, any other name as it is."""
    return name.partition("://")[2] if name.startswith(("file://", "local://")) else name


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it.

    Raises MissingPackageError where its package is not installed, MobileSSDError for a kind of address nobody knows.
    """
    need(f"the address {shown(address)}", "fsspec", extra="bulk")
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    options = {}
    if address.startswith(("s3://", "s3a://")):
        own = conf.get("s3", {}).get("config_kwargs", {})  # what a person has set in fsspec's own configuration
        options["config_kwargs"] = {**S3_TIMEOUTS, **own}
    try:
        return url_to_fs(address, **options)
    except ImportError as error:
        raise MissingPackageError(
            f"{shown(address)}: its file system is not installed ({_words(error)}); {install_line('bulk')} brings that of s3://"
        ) from None
    except ValueError as error:
        raise MobileSSDError(f"{shown(address)}: no file system reads this ({_words(error)})") from None
    except Exception as error:  # every file system has errors of its own: wrong keys, no network
        raise unreachable(address, error) from None


def fetch(address: str) -> bytes:
    """What lies at the address of an image.

    BadImageError where nothing lies there or it may not be read: that is this image's own fault. What is the
    store's (no answer, keys that ran out) is tried again and then a MobileSSDError: a million images must not be
    written down as broken because the network was.
    """
    read = _reader(address)
    tries = 1 if address.startswith(("s3://", "s3a://")) else TRIES  # see S3_TIMEOUTS
    for number in range(1, tries + 1):
        try:
            with said_if_slow(address):
                data = read()
            return data if isinstance(data, bytes) else bytes(data)
        except (FileNotFoundError, IsADirectoryError):
            raise BadImageError(f"{shown(address)}: no such file: check the address") from None
        except PermissionError as error:
            raise BadImageError(f"{shown(address)}: may not be read ({_words(error)}): check your rights") from None
        except MobileSSDError:
            raise
        except Exception as error:
            if number == tries:
                raise unreachable(address, error) from None
            time.sleep(PAUSE * number)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def said_if_slow(address: str) -> Iterator[None]:
    """Says, as a warning, that a store does not answer, where what is done inside takes long."""
    place = "/".join(shown(address).split("/")[:3])  # the same words for all that lies there: Python says them once
    timer = threading.Timer(SILENCE, warn, [f"{place}: no answer for {SILENCE:g} s; still waiting"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _reader(address: str) -> Any:
    if not address.startswith(HTTP):
        files, path = file_system(address)
        return lambda: files.cat_file(path)

    from detection.images.web import open_web  # loads OpenSSL, which a start without an address has no need of

    def read() -> bytes:
        with open_web(address) as answer:
            if answer.headers.get_content_type().startswith(NO_IMAGE):
                raise BadImageError(
                    f"{shown(address)}: is a stream: watch it with `mobilessd live {shown(address)}`, or save it first"
                )
            data: bytes = answer.read(LARGEST)
            return data

    return read


def unreachable(address: str | os.PathLike, error: Exception) -> MobileSSDError:
    """The line for a store that does not answer, or refuses."""
    return MobileSSDError(
        f"{shown(address)}: cannot be reached ({_words(error)}); check the network, the address and the keys"
    )


def _words(error: Exception) -> str:
    text = without_secrets(" ".join(str(error).split()))[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
