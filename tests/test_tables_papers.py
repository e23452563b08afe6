"""No figure of the two papers' tables is lost: each stands in its table of docs/tables.md, ours, cited or explained.

The lists below are the papers' own rows (arXiv 1704.04861 and 1801.04381), typed once more, apart from the product's.
"""

import re

import pytest

from detection.cli.main import main
from detection.cli.tables_plot import Point, classifiers, detectors, fit
from tests.test_tables import PAGE

V1 = {
    1: """Conv / s2 | 3 x 3 x 3 x 32 | 224 x 224 x 3
        Conv dw / s1 | 3 x 3 x 32 dw | 112 x 112 x 32
        Conv / s1 | 1 x 1 x 32 x 64 | 112 x 112 x 32
        Conv dw / s2 | 3 x 3 x 64 dw | 112 x 112 x 64
        Conv / s1 | 1 x 1 x 64 x 128 | 56 x 56 x 64
        Conv dw / s1 | 3 x 3 x 128 dw | 56 x 56 x 128
        Conv / s1 | 1 x 1 x 128 x 128 | 56 x 56 x 128
        Conv dw / s2 | 3 x 3 x 128 dw | 56 x 56 x 128
        Conv / s1 | 1 x 1 x 128 x 256 | 28 x 28 x 128
        Conv dw / s1 | 3 x 3 x 256 dw | 28 x 28 x 256
        Conv / s1 | 1 x 1 x 256 x 256 | 28 x 28 x 256
        Conv dw / s2 | 3 x 3 x 256 dw | 28 x 28 x 256
        Conv / s1 | 1 x 1 x 256 x 512 | 14 x 14 x 256
        Conv dw / s1 | 3 x 3 x 512 dw | 14 x 14 x 512
        Conv / s1 | 1 x 1 x 512 x 512 | 14 x 14 x 512
        Conv dw / s2 | 3 x 3 x 512 dw | 14 x 14 x 512
        Conv / s1 | 1 x 1 x 512 x 1024 | 7 x 7 x 512
        Conv dw / s2 | 3 x 3 x 1024 dw | 7 x 7 x 1024
        Conv / s1 | 1 x 1 x 1024 x 1024 | 7 x 7 x 1024
        FC / s1 | 1024 x 1000 | 1 x 1 x 1024""",
    2: """Conv 1x1 | 94.86 | 74.59
        Conv DW 3x3 | 3.06 | 1.06
        Conv 3x3 | 1.19 | 0.02
        Fully Connected | 0.18 | 24.33""",
    3: """Convolution | 462 | 2.36
        Depthwise Separable Conv | 52.3 | 0.27
        alpha = 0.75 | 29.6 | 0.15
        rho = 0.714 | 15.1 | 0.15""",
    4: """Conv MobileNet | 71.7 | 4866 M | 29.3 M
        MobileNet | 70.6 | 569 M | 4.2 M""",
    5: """0.75 MobileNet | 68.4 | 325 M | 2.6 M
        Shallow MobileNet | 65.3 | 307 M | 2.9 M""",
    6: """1.0 MobileNet-224 | 70.6 | 569 M | 4.2 M
        0.75 MobileNet-224 | 68.4 | 325 M | 2.6 M
        0.5 MobileNet-224 | 63.7 | 149 M | 1.3 M
        0.25 MobileNet-224 | 50.6 | 41 M | 0.5 M""",
    7: """1.0 MobileNet-224 | 70.6 | 569 M | 4.2 M
        1.0 MobileNet-192 | 69.1 | 418 M | 4.2 M
        1.0 MobileNet-160 | 67.2 | 290 M | 4.2 M
        1.0 MobileNet-128 | 64.4 | 186 M | 4.2 M""",
    8: """1.0 MobileNet-224 | 70.6 | 569 M | 4.2 M
        GoogleNet | 69.8 | 1550 M | 6.8 M
        VGG 16 | 71.5 | 15300 M | 138 M""",
    9: """0.50 MobileNet-160 | 60.2 | 76 M | 1.32 M
        Squeezenet | 57.5 | 1700 M | 1.25 M
        AlexNet | 57.2 | 720 M | 60 M""",
    10: """Inception V3 | 84 | 5000 M | 23.2 M
        1.0 MobileNet-224 | 83.3 | 569 M | 3.3 M
        0.75 MobileNet-224 | 81.9 | 325 M | 1.9 M
        1.0 MobileNet-192 | 81.9 | 418 M | 3.3 M
        0.75 MobileNet-192 | 80.5 | 239 M | 1.9 M""",
    11: """Continent (2500 km) | 51.9 | 77.6 | 79.3
        Country (750 km) | 35.4 | 64.0 | 60.3
        Region (200 km) | 32.1 | 51.1 | 45.2
        City (25 km) | 21.9 | 31.7 | 31.7
        Street (1 km) | 2.5 | 11.0 | 11.4""",
    12: """1.0 MobileNet-224 | 88.7 | 568 M | 3.2 M
        0.5 MobileNet-224 | 88.1 | 149 M | 0.8 M
        0.25 MobileNet-224 | 87.2 | 45 M | 0.2 M
        1.0 MobileNet-128 | 88.1 | 185 M | 3.2 M
        0.5 MobileNet-128 | 87.7 | 48 M | 0.8 M
        0.25 MobileNet-128 | 86.4 | 15 M | 0.2 M
        Baseline | 86.9 | 1600 M | 7.5 M""",
    13: """SSD 300, deeplab-VGG | 21.1 | 34.9 G | 33.1 M
        SSD 300, Inception V2 | 22.0 | 3.8 G | 13.7 M
        SSD 300, MobileNet | 19.3 | 1.2 G | 6.8 M
        Faster-RCNN 300, VGG | 22.9 | 64.3 G | 138.5 M
        Faster-RCNN 300, Inception V2 | 15.4 | 118.2 G | 13.3 M
        Faster-RCNN 300, MobileNet | 16.4 | 25.2 G | 6.1 M
        Faster-RCNN 600, VGG | 25.7 | 149.6 G | 138.5 M
        Faster-RCNN 600, Inception V2 | 21.9 | 129.6 G | 13.3 M
        Faster-RCNN 600, Mobilenet | 19.8 | 30.5 G | 6.1 M""",
    14: """FaceNet | 83 | 1600 M | 7.5 M
        1.0 MobileNet-160 | 79.4 | 286 M | 4.9 M
        1.0 MobileNet-128 | 78.3 | 185 M | 5.5 M
        0.75 MobileNet-128 | 75.2 | 166 M | 3.4 M
        0.75 MobileNet-128 | 72.5 | 108 M | 3.8 M""",
}
V2 = {
    1: """h x w x k | 1x1 conv2d, ReLU6 | h x w x (tk)
        h x w x tk | 3x3 dwise s=s, ReLU6 | h/s x w/s x (tk)
        h/s x w/s x tk | linear 1x1 conv2d | h/s x w/s x k'""",
    2: """224 x 3 | conv2d | - | 32 | 1 | 2
        112 x 32 | bottleneck | 1 | 16 | 1 | 1
        112 x 16 | bottleneck | 6 | 24 | 2 | 2
        56 x 24 | bottleneck | 6 | 32 | 3 | 2
        28 x 32 | bottleneck | 6 | 64 | 4 | 2
        14 x 64 | bottleneck | 6 | 96 | 3 | 1
        14 x 96 | bottleneck | 6 | 160 | 3 | 2
        7 x 160 | bottleneck | 6 | 320 | 1 | 1
        7 x 320 | conv2d 1x1 | - | 1280 | 1 | 1""",
    3: """112 x 112 | 64/1600 | 16/400 | 32/800
        56 x 56 | 128/800 | 32/200 | 48/300
        28 x 28 | 256/400 | 64/100 | 400/600
        14 x 14 | 512/200 | 160/62 | 800/310
        7 x 7 | 1024/199 | 320/32 | 1600/156
        1 x 1 | 1024/2 | 1280/2 | 1600/3""",
    4: """MobileNetV1 | 70.6 | 4.2 M | 575 M | 113 ms
        ShuffleNet (1.5) | 71.5 | 3.4 M | 292 M
        ShuffleNet (x2) | 73.7 | 5.4 M | 524 M
        NasNet-A | 74.0 | 5.3 M | 564 M | 183 ms
        MobileNetV2 | 72.0 | 3.4 M | 300 M | 75 ms
        MobileNetV2 (1.4) | 74.7 | 6.9 M | 585 M | 143 ms""",
    5: """SSD | 14.8 M | 1.25 G
        SSDLite | 2.1 M | 0.35 G""",
    6: """SSD300 | 23.2 | 36.1 M | 35.2 G
        SSD512 | 26.8 | 36.1 M | 99.5 G
        YOLOv2 | 21.6 | 50.7 M | 17.5 G
        MNet V1 + SSDLite | 22.2 | 5.1 M | 1.3 G | 270 ms
        MNet V2 + SSDLite | 22.1 | 4.3 M | 0.8 G | 200 ms""",
}


def rows_of(paper: str, number: int) -> list[list[str]]:
    """The cells of a table of the page."""
    page = PAGE.read_text("utf-8")
    part = page.split(f"## The tables of the {paper} paper")[1].split("\n## ")[0]
    section = part.split(f"### Table {number}: ")[1].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(
    "paper, number, rows",
    [(paper, number, rows) for paper, tables in (("V1", V1), ("V2", V2)) for number, rows in tables.items()],
)
def test_every_figure_of_a_papers_table_stands_in_its_row(paper, number, rows):
    on_the_page = rows_of(paper, number)
    for line in rows.splitlines():
        label, *figures = [part.strip() for part in line.split("|")]
        candidates = [row for row in on_the_page if label in (row[0], row[0].split(": ")[0])]
        assert candidates, f"{paper}, table {number}: no row {label}"
        for row in candidates:
            shown = {part.strip() for cell in row[1:] for part in re.split(" / (?=[0-9])|, (?=[0-9])|: ", cell)}
            if set(figures) <= shown | set(row[1:]):
                break
        else:
            raise AssertionError(f"{paper}, table {number}, {label}: {figures} are not in {candidates}")
    assert len(on_the_page) >= len(rows.splitlines())


def test_what_is_not_ours_says_why():
    for paper, tables in (("V1", V1), ("V2", V2)):
        for number in tables:
            for row in rows_of(paper, number):
                assert "differs" not in " ".join(row), (paper, number, row)
                if row[-3:-1] == ["", ""]:  # neither parameters nor multiply-adds of ours
                    assert "cited" in row[-1] or "torchvision" in row[-1], (paper, number, row)


def test_faster_rcnn_is_counted_and_only_inception_is_cited():
    counted = {row[0]: (row[2], row[3]) for row in rows_of("V1", 13) if row[0].startswith("Faster")}
    assert {label for label, ours in counted.items() if ours == ("", "")} == {
        "Faster-RCNN 300, Inception V2", "Faster-RCNN 600, Inception V2"
    }  # fmt: skip
    assert counted["Faster-RCNN 300, MobileNet"] == ("6,063,939", "25,223,422,912")
    assert abs(6_063_939 / 6.1e6 - 1) < 0.02


def test_the_papers_figure_4_has_its_sixteen_networks_and_is_nearly_log_linear():
    points = classifiers()
    v1 = [point for point in points if point.group == "V1"]
    assert sorted({point.size for point in v1}) == [128, 160, 192, 224] and len(v1) == 16
    assert len([point for point in points if point.group == "V2"]) == 22
    wide = [point for point in v1 if not point.name.startswith("V1 0.25")]
    assert fit(wide).residual < 0.6 < 1.5 < fit(v1).residual < 1.8  # "a jump when models get very small at 0.25"
    assert {point.group for point in detectors()} == {"V1 paper", "V2 paper", "V3 paper", "torchvision"}


def test_a_fit_finds_the_line_and_the_point_that_is_off_it():
    points = [Point(f"p{i}", "V1", 224, 1, 10**i, 10.0 * i) for i in range(2, 6)]
    line = fit(points)
    assert (line.slope, line.intercept) == pytest.approx((10, 0), abs=1e-9) and line.residual < 1e-9
    assert fit([*points, Point("off", "V1", 224, 1, 3_000, 90.0)]).at == "off"


def test_the_plot_is_drawn_into_a_file_and_its_fits_are_printed(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["tables", "--plot", str(tmp_path / "cost.svg")]) == 0
    assert "V1: top-1 = 19.1 log10(multiply-adds) -93.3; residual 1.65 points" in capsys.readouterr().out
    drawn = (tmp_path / "cost.svg").read_text()
    assert all(word in drawn for word in ("Figure 4: computation", "Figure 5: parameters", "COCO AP, %"))
    assert main(["tables", "--plot", str(tmp_path / "cost.txt")]) == 2
    assert "cost.txt: a plot is a .png, .svg or .pdf file" in capsys.readouterr().err
