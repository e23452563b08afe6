"""The pages' commands work: every line of README's and docs' `sh` blocks runs, in a copy of a small world, or is marked.

A block that cannot run here has `<!-- not run: why -->` above it, which nobody sees in the rendered page. What is put in
the place of cameras, stores and long trainings stands in tables of docs_world.py.
"""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import command_server
import docs_world
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"(?:^<!-- not run: (?P<why>[^\n]+?) -->\n\n?)?^```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """commands: (line of the page, text, a continued line as one). why: the reason why it does not run, or None."""

    commands: list
    why: str | None


def blocks_of(page: Path) -> list[Block]:
    text, found = page.read_text("utf-8"), []
    for match in FENCE.finditer(text):
        line, commands, open_ = text[: match.start("text")].count("\n") + 1, [], False
        for part in match["text"].splitlines():
            if open_:
                commands[-1] = (commands[-1][0], f"{commands[-1][1]}\n{part}")
            elif part.strip() and not part.startswith("#"):
                commands.append((line, part))
            open_ = part.endswith("\\")
            line += 1
        found.append(Block(commands, match["why"]))
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder for PATH: the commands of Python without their imports, and what has a stand-in."""
    pytest.importorskip("onnx", reason="needs onnx")
    folder = tmp_path_factory.mktemp("bin")
    docs_world.stand_ins(folder)
    server = command_server.start(folder)
    yield folder
    server.terminate()
    server.wait()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_every_command_of_the_page_works(page, programs, world, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(world, folder, symlinks=True)
    keep = {name: value for name, value in os.environ.items() if name.startswith(("MOBILESSD", "OMP", "LANG", "LC_"))}
    environment = {
        **keep,
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "RANK": "0",
        "HOST": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        "PYTHON": sys.executable,
    }
    before = docs_world.run_block([(0, docs_world.BEFORE.get(page.name, "true"))], folder, environment)
    assert not before
    wrong = [docs_world.run_block(block.commands, folder, environment) for block in blocks_of(page) if not block.why]
    assert not (told := "\n".join(filter(None, wrong))), f"{page.name}, {told}"


def test_few_commands_are_marked_as_not_run():
    marked = [
        (page.name, *command) for page in PAGES for block in blocks_of(page) if block.why for command in block.commands
    ]
    assert len(marked) <= 10, marked


def test_no_fence_is_overlooked():
    for page in PAGES:
        assert len(blocks_of(page)) == page.read_text("utf-8").count("```sh\n")
