"""docs/tables.md is what `mobilessd tables` prints, and no figure in it differs from a printed one without a word."""

from pathlib import Path

import pytest

from detection.cli.main import main
from detection.cli.tables_count import compare, remarks
from detection.cli.tables_published import Printed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tables.md"


def test_the_page_is_what_the_command_prints(capsys):
    assert main(["tables"]) == 0
    printed = capsys.readouterr().out
    assert printed == PAGE.read_text("utf-8"), "write it anew: mobilessd tables > docs/tables.md"
    assert "differs" not in printed, "a printed figure is not ours: its row needs a note"


@pytest.mark.parametrize(
    "printed, exact, without_norms, how",
    [
        ("569 M", 568_740_352, None, ""),
        ("4.2 M", 4_231_976, 4_210_088, ""),
        ("1.25 G", 1_259_068_672, None, "cut"),
        ("1.32 M", 1_331_592, 1_320_648, "no norms"),
        ("3.4 M", 3_504_872, 3_470_760, "no norms, cut"),
        ("3,440,060", 3_440_060, None, ""),
        ("3,440,061", 3_440_060, None, None),
        ("317 M", 325_400_448, None, None),
    ],
)
def test_a_printed_figure_agrees_in_its_own_digits(printed, exact, without_norms, how):
    assert compare(printed, exact, without_norms) == how


def test_a_difference_is_said_and_a_reason_takes_its_place():
    row = [Printed("6.9 M", "585 M"), Printed("6.06 M", "582 M", norms=False)]
    counts = (6_108_776, 6_060_840, 582_195_824)
    assert remarks(row, "", *counts) == "6.9 M differs; 585 M differs"
    assert remarks(row, "not reproducible", *counts) == "not reproducible"
    assert remarks(row[1:], "", *counts) == ""
