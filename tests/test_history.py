"""The history of a run: what a resumed run reads, keeps and goes on with."""

import csv
import json

import pytest

pytest.importorskip("torch", reason="needs torch")

from detection.train.history_charts import training_section
from detection.train.learn.history import History, read_history


def test_a_run_begun_under_former_names_of_columns_goes_on_under_todays(tmp_path):
    old = [{"step": s, "pictures": 8 * s, "pictures_per_second": 5.0, "loss": 1.0} for s in (10, 20, 30)]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old) + '{"step": 40, "pict')
    assert [row["images"] for row in read_history(tmp_path)] == [80, 160, 240]
    history = History(tmp_path, resume_step=20)
    history.add(step=30, images=240, images_per_second=6.0, loss=0.5)
    history.close()
    assert [(row["step"], row["images"]) for row in read_history(tmp_path)] == [(10, 80), (20, 160), (30, 240)]
    assert "pictures" not in (tmp_path / "history.jsonl").read_text()
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert list(rows[0]) == ["step", "images", "images_per_second", "loss"] and rows[-1]["images_per_second"] == "6.0"
    facts = training_section(history.rows).facts
    assert facts["images seen"] == "240" and facts["speed"] == "5.0 images/s (median)"
