"""The history of a run: what a resumed run reads, keeps and goes on with; and the report at its end."""

import csv
import json
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="needs torch")

from detection.train.finalize import _report
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


def test_without_jinja2_a_training_ends_with_a_warning_in_the_place_of_the_report(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    truth = SimpleNamespace(path="some.json", image_ids=(1, 2))
    scored = SimpleNamespace(truth=truth, results=None, numbers=SimpleNamespace(engine="pycocotools"))
    config = SimpleNamespace(to_yaml=lambda: "")
    job = SimpleNamespace(folder=tmp_path, history=SimpleNamespace(rows=[]), config=config, device="cpu")
    _report(job, scored, SimpleNamespace(name="mine"))
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ['no report: report.html needs jinja2: pip install "mobilessd[eval]"']
    assert not list(tmp_path.iterdir())
