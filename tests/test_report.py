"""The report: plots, the worst images and one page that shows them, of any training and any evaluation."""

import csv
import html
import json
import re
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from detection.cli.main import main
from detection.errors import MissingPackageError
from detection.evaluate.coco import evaluate
from detection.evaluate.curves import against_threshold, precision_recall
from detection.evaluate.errors import KINDS
from detection.evaluate.matches import match
from detection.evaluate.outcomes import confusion_matrix, mix_ups, outcomes_at
from detection.evaluate.report.write import write_report
from detection.evaluate.results import Results, no_results, write_results
from detection.evaluate.thresholds import best_thresholds
from detection.evaluate.truth import GroundTruth
from detection.images.decode import read_image
from detection.train.history_charts import training_section
from detection.weights.card import Card

HISTORY = [
    {
        "step": s,
        "images": 8 * s,
        "loss": 9 / s,
        "classification": 6 / s,
        "localization": 3 / s,
        "lr": 0.01,
        "AP": None,
    }
    for s in range(1, 41)
] + [{"step": s, "images": 8 * s, "AP": s / 100, "AP50": s / 60, "AP75": float("nan")} for s in (10, 20, 30, 40)]
HISTORY[-5]["seconds"] = 4000.0


def a_truth(rows, names=("cat", "dog"), images=3, crowd=()):
    """rows: (image, class, x, y, w, h)."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return GroundTruth(
        path="data/instances_some.json",
        image_ids=tuple(range(images)),
        file_names=tuple(f"{i}.png" for i in range(images)),
        sizes=np.full((images, 2), 100),
        category_ids=tuple(range(1, len(names) + 1)),
        category_names=tuple(names),
        image=table[:, 0].astype(int),
        category=table[:, 1].astype(int),
        boxes=table[:, 2:],
        area=table[:, 4] * table[:, 5],
        crowd=np.isin(np.arange(len(table)), crowd),
    )


def in_folder(truth, folder):
    return replace(truth, paths=tuple(str(folder / name) for name in truth.file_names))


def some_results(rows):
    """rows: (image, class, x, y, w, h, score)."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Results(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:6], table[:, 6])


def made_up(classes=3, images=30, seed=0):
    g = np.random.default_rng(seed)
    count = 4 * images
    rows = np.column_stack(
        [
            g.integers(0, images, count),
            g.integers(0, classes, count),
            g.uniform(0, 60, (count, 2)),
            g.uniform(10, 40, (count, 2)),
        ]
    )
    truth = a_truth(rows, [f"class {k}" for k in range(classes)], images, crowd=[0, 1])
    found = rows[g.integers(0, count, 2 * count)]
    found[:, 1] = np.where(g.random(len(found)) < 0.3, g.integers(0, classes, len(found)), found[:, 1])
    found[:, 2:] += g.normal(0, 3, (len(found), 4))
    return truth, some_results(np.column_stack([found, g.uniform(0.02, 0.9, len(found))]))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index in range(30):
        noise = np.random.default_rng(index).integers(0, 255, (100, 100 + 20 * (index % 3), 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), noise)
    return folder


@pytest.fixture
def no_plots(monkeypatch):
    """As if matplotlib were not installed; also where only the rest of the report matters: plots take a second."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def text_of(report):
    return report.page.read_text(encoding="utf-8")


def test_a_training_leaves_every_plot_as_png_and_one_page_that_shows_them(tmp_path, images):
    truth, results = made_up()
    card = Card({"input": {"size": [300, 300]}}, ("a", "b", "c"), (1, 2, 3), name="my model", licence="CC0")
    report = write_report(
        tmp_path,
        in_folder(truth, images),
        results,
        sections=[training_section(HISTORY)],
        card=card,
        config="lr: 0.01 # <small>\n",
    )
    assert report.notes == () and report.page == tmp_path / "report.html"
    page = text_of(report)
    plots = ["loss", "map", "learning_rate", "pr_curves", "thresholds", "confusion", "predictions"]
    for name in plots:
        image = read_image(tmp_path / f"plots/{name}.png")
        assert image.shape[0] > 200 and image.std() > 1, name
        assert f"plots/{name}.png" in page
    assert page.count("<svg") == len(plots) - 1
    for part in (
        "my model",
        "CC0",
        "lr: 0.01 # &lt;small&gt;",
        "class 2",
        "localization",
        "instances_some",
        "1 h 7 min",
    ):
        assert part in page
    assert "distillation" not in page, "a part of the loss that this training does not have"
    assert f"{report.numbers.AP:.3f}" in page
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["AP"] == pytest.approx(evaluate(truth, results).AP) and set(numbers["errors"]["lost"]) == set(KINDS)
    assert len(list(csv.DictReader((tmp_path / "per_class.csv").open()))) == 1 + 3
    assert not [p for p in tmp_path.rglob("*") if ".part" in p.name], "nothing half-written stays behind"


def test_the_page_names_the_twenty_worst_images_in_order_and_draws_them(tmp_path, images, no_plots):
    truth, results = made_up()
    report = write_report(tmp_path, in_folder(truth, images), results)
    outcomes = outcomes_at(truth, results, best_thresholds(truth, results).overall.score)
    worst = outcomes.worst(20)
    assert len(worst) == 20 and (np.diff(outcomes.f1[worst]) >= 0).all()
    assert outcomes.f1[worst[-1]] <= np.delete(outcomes.f1, worst).min()
    section = text_of(report).split('id="worst-images"')[1].split("</section>")[0]
    assert re.findall(r"<b>(.*?)</b>", section) == [truth.file_names[i] for i in worst]
    assert section.count("data:image/jpeg;base64,") == 20
    for rank in range(1, 21):
        assert f'href="worst/{rank:02d}.jpg"' in section
        assert read_image(tmp_path / f"worst/{rank:02d}.jpg").shape[0] == 100


def test_the_page_loads_nothing_from_elsewhere_and_escapes_every_name(tmp_path, images):
    evil = "<script>alert('$x')</script>"
    truth = a_truth([(0, 0, 5, 5, 50, 50), (1, 1, 5, 5, 50, 50)], (evil, "_$\\frac{"))
    results = some_results([(0, 1, 5, 5, 50, 50, 0.9), (1, 1, 5, 5, 50, 50, 0.8)])
    page = text_of(write_report(tmp_path, in_folder(truth, images), results, title=evil, config=evil))
    assert evil not in page and html.unescape(page).count(evil) >= 3
    assert not re.search(r'(?:src|href)="(?!#|data:image/|plots/|worst/|per_class|numbers)', page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert page.count("<section") == page.count("</section>") and page.rstrip().endswith("</html>")


def test_the_plots_in_the_page_take_its_colours(tmp_path):
    truth, results = made_up(images=3)
    page = text_of(write_report(tmp_path, truth, results))
    svg = page.split("<svg")[1].split("</svg>")[0]
    assert "var(--ink)" in svg and "var(--muted)" in svg and "#1b1f24" not in svg


def test_one_class_and_eighty(tmp_path, images):
    for classes in (1, 80):
        truth, results = made_up(classes)
        report = write_report(tmp_path / str(classes), in_folder(truth, images), results)
        assert report.notes == ()
        assert read_image(tmp_path / str(classes) / "plots/confusion.png").shape[0] > 200
        assert ("most confused of 80" in text_of(report)) == (classes == 80)
        assert ("Most frequent mix-ups" in text_of(report)) == (classes == 80)


@pytest.mark.parametrize("rows", [[], [(0, 0, 5, 5, 50, 50)]], ids=["no objects", "an object"])
def test_without_detections_the_report_is_written_all_the_same(tmp_path, images, rows):
    report = write_report(tmp_path, in_folder(a_truth(rows), images), no_results())
    assert report.notes == ()
    assert (tmp_path / "plots/pr_curves.png").is_file()
    page = text_of(report)
    assert ("0.png" in page) == bool(rows), "the image whose object was missed is among the worst"
    assert "nan" not in re.sub(r"data:[^\"]*", "", page)


def test_a_perfect_result_has_no_worst_images(tmp_path, images, no_plots):
    truth = a_truth([(0, 0, 5, 5, 50, 50)])
    report = write_report(tmp_path, in_folder(truth, images), some_results([(0, 0, 5, 5, 50, 50, 0.9)]))
    assert "None: no object was missed" in text_of(report)
    assert not list((tmp_path / "worst").glob("*.jpg"))


def test_without_matplotlib_one_line_says_so_and_the_rest_is_written(tmp_path, images, no_plots):
    truth, results = made_up()
    report = write_report(tmp_path, in_folder(truth, images), results, sections=[training_section(HISTORY)])
    assert len(report.notes) == 1 and 'pip install "mobilessd[eval]"' in report.notes[0]
    assert report.notes[0] in html.unescape(text_of(report))
    assert [p.name for p in (tmp_path / "plots").iterdir()] == ["predictions.png"]
    assert len(list((tmp_path / "worst").iterdir())) == 20


def test_without_jinja2_one_line_says_so_and_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    truth, results = made_up()
    with pytest.raises(MissingPackageError, match=r"needs jinja2: pip install .mobilessd\[eval\]"):
        write_report(tmp_path / "out", truth, results)
    command = ["eval", "--annotations", "none.json", "--self-test", "--report", str(tmp_path / "out")]
    assert main(command) == 2
    assert capsys.readouterr().err == 'error: report.html needs jinja2: pip install "mobilessd[eval]"\n'
    assert not (tmp_path / "out").exists()


def test_images_that_are_gone_or_broken_are_named_and_the_rest_is_shown(tmp_path, no_plots):
    truth = a_truth([(0, 0, 5, 5, 50, 50), (1, 1, 5, 5, 50, 50)])
    (tmp_path / "0.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((100, 100, 3), np.uint8))
    report = write_report(tmp_path / "out", in_folder(truth, tmp_path), no_results())
    assert [note for note in report.notes if "0.png" in note] and len(report.notes) == 2  # and matplotlib
    assert [p.name for p in (tmp_path / "out/worst").iterdir()] == ["02.jpg"]
    nowhere = write_report(tmp_path / "out2", truth, no_results())
    assert "not at hand" in nowhere.notes[-1]
    assert "0.png" in text_of(nowhere), "the worst are named even so"


def test_a_second_report_in_the_same_folder_leaves_nothing_of_the_first(tmp_path, images, no_plots):
    truth, results = made_up()
    write_report(tmp_path, in_folder(truth, images), results)
    (tmp_path / "notes.txt").write_text("mine")
    again = write_report(tmp_path, in_folder(a_truth([(0, 0, 5, 5, 50, 50)]), images), no_results())
    assert [p.name for p in (tmp_path / "worst").iterdir()] == ["01.jpg"]
    assert 'href="notes.txt"' in text_of(again)


def test_the_eval_command_writes_a_report_of_any_results(tmp_path, images, capsys, no_plots):
    truth, results = made_up()
    data = {
        "images": [{"id": i, "file_name": n, "width": 100, "height": 100} for i, n in enumerate(truth.file_names)],
        "categories": [{"id": i, "name": n} for i, n in zip(truth.category_ids, truth.category_names)],
        "annotations": [
            {"id": k, "image_id": int(i), "category_id": int(c) + 1, "bbox": box}
            for k, (i, c, box) in enumerate(zip(truth.image, truth.category, truth.boxes.tolist()))
        ],
    }
    (tmp_path / "some.json").write_text(json.dumps(data))
    write_results(tmp_path / "found.json", results, truth)
    given = ["--annotations", str(tmp_path / "some.json"), "--results", str(tmp_path / "found.json"), "--quiet"]
    assert main(["eval", *given, "--images", str(images), "--report", str(tmp_path / "out")]) == 0
    assert f"report: {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().out
    assert "data:image/jpeg" in (tmp_path / "out/report.html").read_text()
    assert main(["eval", *given, "--report", str(tmp_path / "bare")]) == 0
    assert "not at hand" in capsys.readouterr().err


# What the report is computed from


def test_outcomes_say_what_became_of_every_object_and_detection():
    truth = a_truth([(0, 0, 0, 0, 40, 40), (0, 1, 50, 50, 40, 40), (1, 0, 0, 0, 90, 90)], crowd=[2])
    results = some_results(
        [
            (0, 0, 0, 0, 40, 40, 0.9),  # right
            (0, 0, 1, 0, 40, 40, 0.8),  # the same again
            (0, 0, 50, 50, 40, 40, 0.7),  # the dog, called a cat
            (1, 0, 10, 10, 20, 20, 0.9),  # in the crowd
            (2, 1, 10, 10, 20, 20, 0.6),  # nothing there
            (0, 1, 50, 50, 40, 40, 0.2),  # the dog, but below the threshold
        ]
    )
    out = outcomes_at(truth, results, 0.5)
    assert len(out.shown) == 5
    assert out.right.tolist() == [True, False, False, False, False]
    assert out.wrong.tolist() == [False, True, True, False, True]
    assert [KINDS[k] if k >= 0 else "" for k in out.kind] == ["", "duplicate", "classification", "", "background"]
    assert out.found.tolist() == [True, False, False]
    assert (out.hits.tolist(), out.alarms.tolist(), out.missed.tolist()) == ([1, 0, 0], [2, 0, 1], [1, 0, 0])
    assert out.f1.tolist() == [pytest.approx(2 / 5), 1.0, 0.0]
    assert out.worst(20).tolist() == [2, 0]
    matrix = confusion_matrix(truth, out)
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0]]  # rows: cat, dog, nothing; columns: cat, dog, missed
    assert mix_ups(matrix, 5) == [(1, 0, 1)]


def test_confusion_and_outcomes_count_everything_once():
    truth, results = made_up(classes=5, seed=3)
    thresholds = best_thresholds(truth, results)
    out = outcomes_at(truth, results, thresholds.overall.score)
    matrix = confusion_matrix(truth, out)
    assert (matrix[:-1].sum(1) == truth.objects).all()
    assert matrix[:, :-1].sum() == out.right.sum() + out.wrong.sum()
    hits, alarms, missed = out.hits.sum(), out.alarms.sum(), out.missed.sum()
    assert 2 * hits / (2 * hits + alarms + missed) == pytest.approx(thresholds.overall.f1)


def test_the_curves_are_those_of_the_numbers():
    truth, results = made_up(classes=4, seed=1)
    matches = match(truth, results, [0.5])
    per_class = [one.AP50 for one in evaluate(truth, results).per_class]
    assert np.allclose(precision_recall(matches).mean(1), per_class, atol=1e-9)
    curve, best = against_threshold(matches, steps=1000), best_thresholds(truth, results, matches).overall
    assert curve.f1.max() == pytest.approx(best.f1, abs=0.01)
    near = int(np.abs(curve.scores - best.score).argmin())
    assert (curve.precision[near], curve.recall[near]) == pytest.approx((best.precision, best.recall), abs=0.02)
    assert np.isnan(precision_recall(match(a_truth([]), no_results(), [0.5]))).all()
