"""What a run says about itself: JSON lines and CSV always, and what `loggers` write."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.files import no_link, write_text
from detection.train.learn.loggers import Loggers

JSONL, CSV = "history.jsonl", "history.csv"
FORMER_NAMES = {
    "pictures": "images",
    "pictures_per_second": "images_per_second",
    "localisation": "localization",
}  # of columns, in runs of version 0.1


class History:
    """The rows of a run, one a log interval or evaluation, in the order they came.

    Opened again for a resumed run it keeps the rows up to the step that the checkpoint holds: what came after it
    happens again. loggers, about: as `Loggers` takes them.
    """

    def __init__(
        self,
        folder: Path,
        resume_step: int | None = None,
        write: bool = True,
        loggers: Sequence[str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.write = folder, write
        self.rows: list[dict[str, Any]] = []
        self._loggers = Loggers(loggers, folder, resume_step, about or {}) if write else None
        if not write:
            return
        if resume_step is not None and (folder / JSONL).exists():
            self.rows = [row for row in read_history(folder) if row["step"] <= resume_step]
            self._rewrite()
        else:
            write_text(folder / JSONL, "")

    def add(self, **row: Any) -> None:
        """Appends a row; it is in the file when this returns."""
        row = {key: _plain(value) for key, value in row.items()}
        self.rows.append(row)
        if not self.write:
            return
        with open(self.folder / JSONL, "a", encoding="utf-8", opener=no_link) as file:
            file.write(json.dumps(row) + "\n")
        if self._loggers is not None:
            self._loggers.add(row["step"], {key: value for key, value in row.items() if isinstance(value, float)})

    def close(self) -> None:
        """Writes the CSV form."""
        if not self.write:
            return
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.folder / CSV, text.getvalue())
        if self._loggers is not None:
            self._loggers.close()

    def _rewrite(self) -> None:
        write_text(self.folder / JSONL, "".join(json.dumps(row) + "\n" for row in self.rows))


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run folder, under today's names of columns; a last line cut off by a kill is left out."""
    rows = []
    for line in (folder / JSONL).read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        rows.append({FORMER_NAMES.get(name, name): value for name, value in row.items()})
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None  # NaN is no JSON
    return value
