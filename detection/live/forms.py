"""Reads a form that was sent as multipart/form-data (RFC 7578) and is in memory as a whole. Standard library only."""

from __future__ import annotations

from email.message import Message

MOST_FIELDS = 32
LONGEST_HEAD = 8192  # bytes before a field's value


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that a Content-Type names; None where it is no multipart/form-data with one."""
    head = Message()
    head["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    boundary = head.get_param("boundary")
    if head.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        return None
    # RFC 2046: 1 to 70 characters.
    return boundary.encode("ascii") if 0 < len(boundary) <= 70 and boundary.isascii() else None


def fields_of(data: bytes, boundary: bytes) -> dict[str, bytes]:
    """The values by name; of several of a name the first. Raises ValueError, one line, for what is no such form."""
    mark = b"\r\n--" + boundary
    # The first one has no line end before it, unless there is a preamble.
    at = len(mark) - 2 if data.startswith(mark[2:]) else data.find(mark) + len(mark)
    if at < len(mark) - 2:
        raise ValueError("the form's boundary is not in it")
    fields: dict[str, bytes] = {}
    for _ in range(MOST_FIELDS + 1):
        if data.startswith(b"--", at):
            return fields
        end = data.find(mark, at)
        head_end = data.find(b"\r\n\r\n", at, at + LONGEST_HEAD)
        if end < 0 or head_end < 0 or head_end > end:
            raise ValueError("the form is cut short")
        name = _name_of(data[at:head_end])
        if name is not None:
            fields.setdefault(name, data[head_end + 4 : end])
        at = end + len(mark)
    raise ValueError(f"the form has more than {MOST_FIELDS} fields")


def _name_of(head: bytes) -> str | None:
    for line in head.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            disposition = Message()
            disposition["content-disposition"] = value.strip().replace("\r", " ").replace("\n", " ")
            name = disposition.get_param("name", header="content-disposition")
            return name if isinstance(name, str) else None
    return None
