"""docs/own_detector.ipynb runs from its first cell to its last, with a training of two steps in the place of ten minutes."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "own_detector.ipynb"
SHORTER = {
    "--time-budget 10m": "--steps 2 --batch 2 --workers 0 --input-size 96 --compile no --device cpu",
    '("train", 120), ("val", 30)': '("train", 8), ("val", 4)',
}


def cells():
    return json.loads(NOTEBOOK.read_text("utf-8"))["cells"]


def test_it_is_stored_without_outputs_and_what_is_shortened_is_in_it():
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert len(code) >= 8 and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    text = "".join("".join(cell["source"]) for cell in code)
    assert all(text.count(words) == 1 for words in SHORTER)
    assert "!mobilessd" not in text, "a cell of %%sh fails where its command does"


def test_every_cell_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    pytest.importorskip("torch", reason="needs torch")
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        for words, instead in SHORTER.items():
            cell.source = cell.source.replace(words, instead)
    programs = tmp_path / "bin"
    programs.mkdir()
    command = programs / "mobilessd"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from detection.cli.main import entry; entry()" "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/local/bin:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / "here"
    folder.mkdir()
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    assert (folder / "shapes.onnx").stat().st_size > 100_000
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert any("image/jpeg" in output["data"] for output in shown)
