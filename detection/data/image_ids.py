"""Lists of images by id, as people keep them: a JSON list, a JSON object of lists, or ids in lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

from detection.errors import BadDataError


def read_ids(path: str | os.PathLike) -> set[str]:
    """The ids that a file names, as text. Raises BadDataError, one line, for what is no such file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadDataError(f"{path}: no such file") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise BadDataError(f"{path}: not a text file of image ids") from None
    if text.lstrip()[:1] in ("[", "{"):
        try:
            data = json.loads(text)
        except ValueError as error:
            raise BadDataError(f"{path}: not JSON ({error})") from None
        groups = [group for group in data.values() if isinstance(group, list)] if isinstance(data, dict) else [data]
        return {str(identity) for group in groups for identity in group}
    return set(text.replace(",", " ").split())
