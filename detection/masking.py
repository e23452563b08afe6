"""Addresses as they may be shown, logged and written down: without the passwords, tokens and keys that cameras and stores
put into every part of them. Standard library only.

`user:password@host`; `?user=admin&pwd=...`; `/user=admin_password=..._channel=1`; `/live/USER/PASSWORD/1.ts`; the last
part of an rtmp address, which is the key of the stream; parts that look like keys, as those of rtsps://nvr/aB3dE5gH7jK9mN1p.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
# Texts, which `re` compiles when the first address is met: a start without one pays nothing.
_ADDRESS = r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s'\"<>()]+"
_SECRET = (
    r"(?i)(?:.*(?:pass|pwd|secret|token|auth|credential|signature|apikey|accesskey|stream_?(?:key|id)|session|licen[cs]e).*"
    r"|x-amz-.+|(?:.*[^a-z])?key(?:id)?|pw|psw|pin|p|u|us[ae]?r(?:name|id)?|login\w*|account|sig|sid|rs|jwt|sas)"
)
_BEFORE_SECRET = r"(?i)(?:pass(?:word|wd)?|pwd|secret|token|auth|api_?key|key|stream_?key)"
_PLAIN = r"[0-9]{1,6}|[0-9]{2,5}x[0-9]{2,5}|[0-9]+\.[0-9]+"  # what a name may be given, if it is no secret
_WORDED = r"(?i)c(?:md|am|amera|hannel|odec)|action|format|type|stream|profile|mode|quality|size|res\w*|view|lang|page"
_USER = r"[^/@\s]+:[^@\s]*@(?=[\w.\[\]-]+(?::[0-9]+)?/)"
_WATCHED = (
    "http",
    "https",
    "rtsp",
    "rtsps",
    "rtmp",
    "rtmps",
    "srt",
    "mms",
    "udp",
    "tcp",
    "rtp",
)  # by cameras, not stores
_FILE = r".+\.[A-Za-z][A-Za-z0-9]{1,4}"


def without_secrets(address: str) -> str:
    """A URL without user and password, and with *** for what may be a secret in its path and query; also each URL within a
    longer text. Whatever holds no URL comes back as it is."""
    return re.sub(_ADDRESS, lambda match: _masked(match[0]), address) if "://" in address else address


def _masked(address: str) -> str:
    scheme, _, rest = address.partition("://")
    if scheme in ("file", "local"):
        return address
    rest = re.sub(_USER, "", rest, count=1)  # also passwords with / ? # in them, which nobody wrote as %2F
    rest, _, fragment = rest.partition("#")
    place, question, query = rest.partition("?")
    host, slash, path = place.partition("/")
    host = host.rpartition("@")[2]
    parts = _path(path.split("/"), scheme) if slash else []
    query = "&".join(_pair(pair, strict=True) for pair in re.split("[&;]", query)) if question else ""
    return f"{scheme}://" + "/".join([host, *parts]) + question + query + (f"#{HIDDEN}" if fragment else "")


def _path(parts: list[str], scheme: str) -> list[str]:
    if scheme not in _WATCHED:  # names of a store: secrets stand elsewhere, and its files must be found again
        return parts
    shown, hide = [], False
    for part in parts:
        words = re.split(r"([&;,]|_(?=[A-Za-z]+=))", part)  # user=admin_password=x_channel=1
        shown.append(HIDDEN if hide and part else "".join(_pair(word) for word in words))
        hide = bool(re.fullmatch(_BEFORE_SECRET, unquote(part)))
    if scheme in ("rtmp", "rtmps") and len(shown) > 1 and shown[-1]:
        shown[-1] = HIDDEN  # rtmp://host/application/key
    if len(parts) > 2 and re.fullmatch(r"[0-9]+\.(ts|m3u8)", parts[-1]):
        shown[-3:-1] = [HIDDEN, HIDDEN]  # /live/USER/PASSWORD/1.ts
    return shown


def _pair(text: str, strict: bool = False) -> str:
    """`name=value` or `name:value` with its value hidden if it may be a secret; strict: unless it is clearly none."""
    key, equals, given = text.partition("=")
    if not equals:
        user, colon, password = text.partition(":")
        if colon and password:
            return f"{user}:{HIDDEN}"
        return HIDDEN if _like_a_key(unquote(text)) and not re.fullmatch(_FILE, text) else text
    name, value = unquote(key), unquote(given)
    plain = re.fullmatch(_PLAIN, value) or (re.fullmatch(_WORDED, name) and value.isascii() and value.isalnum())
    secret = bool(re.fullmatch(_SECRET, name)) or _like_a_key(value) or (strict and not plain)
    return f"{key}={HIDDEN}" if secret and value else text


def _like_a_key(text: str) -> bool:
    """Whether a part looks as no person names things: long, of capitals, small letters and digits all mixed, or hex."""
    for word in re.split(r"[._ ]", text):
        hexadecimal = (
            re.fullmatch(r"[0-9a-fA-F-]{16,}", word) and re.search("[a-fA-F]", word) and re.search("[0-9]", word)
        )
        mixed = len(word) >= 12 and all(re.search(kind, word) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
        if hexadecimal or (mixed and re.fullmatch(r"[\w=+-]+", word)):
            return True
    return False
