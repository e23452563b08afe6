"""Files are whole or absent, and readable for whom the umask says, whatever library writes them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_sets import coco
from safetensors.torch import save_file

from detection.files import atomic_write, no_link, write_text

ROOT = Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX file modes and signals")


@pytest.fixture
def umask():
    """A umask under which files are for the owner and the group."""
    before = os.umask(0o027)
    yield 0o640
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@posix
class TestModes:
    def test_a_library_that_writes_for_the_owner_alone(self, umask, tmp_path):
        with atomic_write(tmp_path / "a.safetensors") as temporary:
            save_file({"a": torch.zeros(1)}, temporary)
        assert mode(tmp_path / "a.safetensors") == umask


@posix
class TestNobodyReads:
    """`mobilessd ... | head`: 141, as shells give it, and no file of a part; 0 where all was done by then."""

    def closed(self, *arguments):
        """The exit code of the command with a standard output that is closed, and what it said on stderr."""
        code = f"import sys; from detection.cli.main import main; sys.exit(main({[*map(str, arguments)]}))"
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        environment["PYTHONPATH"] = str(ROOT)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **pipes)
        process.stdout.close()
        err = process.stderr.read()
        return process.wait(), err

    def test_detect_leaves_no_file_of_some_of_the_images(self, tmp_path):
        for i in range(3):
            cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((40, 40, 3), np.uint8))
        files = "--json", tmp_path / "boxes.json", "--csv", tmp_path / "boxes.csv"
        assert self.closed("detect", tmp_path, "--no-draw", *files) == (141, "")
        assert not list(tmp_path.glob("boxes*"))

    def test_what_was_done_before_is_whole(self, tmp_path):
        data, output = coco(tmp_path, [(1, 1, [5, 5, 20, 20])]), tmp_path / "out.json"
        assert self.closed("data", "convert", data, "--to", "coco", "--output", output) == (0, "")
        assert output.exists()


@posix
def test_a_link_in_the_place_of_a_file_of_ours_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("content")
    (tmp_path / "history.jsonl").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"):
        open(tmp_path / "history.jsonl", "a", opener=no_link)  # noqa: SIM115
    write_text(tmp_path / "history.jsonl", "new")
    assert (tmp_path / "precious").read_text() == "content" and (tmp_path / "history.jsonl").read_text() == "new"
