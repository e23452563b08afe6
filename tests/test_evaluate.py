"""The numbers are COCO's: both engines, the matching, the thresholds; from published and made-up data."""

import contextlib
import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.cli.main import main
from detection.evaluate.coco import NAMES, evaluate
from detection.evaluate.matches import COCO_IOUS, average_precision, match
from detection.evaluate.results import Results, no_results, perfect_results, read_results, write_results
from detection.evaluate.thresholds import best_thresholds
from detection.evaluate.truth import GroundTruth, read_truth

# What the COCO API prints for its own fake results (AP, AP50, AP75, small, medium, large; AR1, AR10, AR100, S, M, L).
PUBLISHED = (0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564)


def made_up(seed=0, images=6, classes=3, objects=25, found=120, crowds=3):
    """Random ground truth and detections, with ties of scores, exact hits, near misses, duplicates and crowds."""
    g = np.random.default_rng(seed)
    boxes = np.concatenate([g.uniform(0, 80, (objects, 2)), g.uniform(4, 120, (objects, 2))], 1).round(1)
    truth = GroundTruth(
        path="made-up.json",
        image_ids=tuple(range(10, 10 + images)),
        file_names=("",) * images,
        sizes=np.full((images, 2), 200),
        category_ids=tuple(range(1, classes + 1)),
        category_names=tuple("abcdefgh"[:classes]),
        image=g.integers(0, images, objects),
        category=g.integers(0, classes, objects),
        boxes=boxes,
        area=boxes[:, 2] * boxes[:, 3] * g.uniform(0.5, 1, objects),
        crowd=np.arange(objects) < crowds,
    )
    of = g.integers(0, objects, found) if objects else np.zeros(0, int)
    shift = g.normal(0, 6, (len(of), 4)) * (g.random((len(of), 1)) < 0.8)
    near = np.abs(boxes[of] + shift)
    other = g.random(len(of)) < 0.3
    category = np.where(other, g.integers(0, classes, len(of)), truth.category[of])
    return truth, Results(truth.image[of], category, near, g.integers(1, 20, len(of)) / 20)


def as_json(truth, results):
    """The content of an annotation file and of a results file."""
    annotations = [
        {
            "id": n + 1,
            "image_id": truth.image_ids[i],
            "category_id": truth.category_ids[c],
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for n, (i, c, box, area, crowd) in enumerate(
            zip(truth.image, truth.category, truth.boxes, truth.area, truth.crowd)
        )
    ]
    rows = [
        {
            "image_id": truth.image_ids[i],
            "category_id": truth.category_ids[c],
            "bbox": box.tolist(),
            "score": float(score),
        }
        for i, c, box, score in zip(results.image, results.category, results.boxes, results.scores)
    ]
    images = [{"id": i} for i in truth.image_ids]
    categories = [{"id": i, "name": name} for i, name in zip(truth.category_ids, truth.category_names)]
    return {"images": images, "categories": categories, "annotations": annotations}, rows


def oracle(truth, results):
    """pycocotools as its own documentation uses it, from JSON files' content."""
    from pycocotools.coco import COCO

    dataset, rows = as_json(truth, results)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = dataset
        coco.createIndex()
    return scored(coco, rows)


def scored(coco, rows):
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(coco, coco.loadRes(rows), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return run


@dataclass(frozen=True)
class Example:
    """An annotation file and a results file, and what is known of them from elsewhere."""

    annotations: Path
    results: Path
    twelve: tuple[float, ...]
    person: float  # AP
    absent: str  # a class of which the data hold nothing
    images: int
    objects: int  # without crowds
    detections: int
    classes: int

    def read(self):
        truth = read_truth(self.annotations)
        return truth, read_results(self.results, truth)


@pytest.fixture(scope="module", params=["made", "published"])
def example(request, tmp_path_factory):
    """Files that the test makes, scored by pycocotools, which reads them itself; and the COCO API's own example."""
    if request.param == "published":
        data = request.getfixturevalue("shared") / "data/cocoapi"
        files = data / "instances_val2014_100.json", data / "instances_val2014_fakebbox100_results.json"
        return Example(*files, PUBLISHED, 0.5326, "toaster", images=100, objects=830, detections=734, classes=80)
    from pycocotools.coco import COCO

    truth, results = made_up(7, images=20, classes=4, objects=120, found=400, crowds=9)
    truth = replace(
        truth,
        image_ids=tuple(int(i) for i in np.random.default_rng(7).permutation(9000)[:20]),
        category_ids=(90, 1, 7, 17),  # in no order and with gaps
        category_names=("toothbrush", "person", "train", "cat"),
    )
    folder = tmp_path_factory.mktemp("made")
    files = folder / "instances_val2014_100.json", folder / "results.json"
    content, rows = as_json(truth, results)
    content["categories"].append({"id": 80, "name": "toaster"})
    for file, what in zip(files, (content, rows)):
        file.write_text(json.dumps(what))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(files[0])
    run = scored(coco, str(files[1]))
    person = run.eval["precision"][:, :, sorted(coco.getCatIds()).index(1), 0, 2].mean()
    return Example(
        *files, tuple(run.stats.tolist()), person, "toaster", images=20, objects=111, detections=400, classes=5
    )


@pytest.mark.parametrize("engine", ["pycocotools", "faster"])
def test_the_example_s_results_give_the_example_s_numbers(example, engine):
    numbers = evaluate(*example.read(), engine)
    assert tuple(numbers.twelve().values()) == pytest.approx(example.twelve, abs=5e-4)
    assert tuple(numbers.twelve()) == NAMES
    assert (numbers.images, numbers.detections, numbers.engine) == (example.images, example.detections, engine)


@pytest.mark.parametrize("engine", ["pycocotools", "faster"])
@pytest.mark.parametrize("seed", range(5))
def test_both_engines_equal_pycocotools_used_by_its_own_book(engine, seed):
    truth, results = made_up(seed)
    run, numbers = oracle(truth, results), evaluate(truth, results, engine)
    stats = [math.nan if value == -1 else value for value in run.stats]
    np.testing.assert_allclose(list(numbers.twelve().values()), stats, atol=1e-12, equal_nan=True)
    for k, one in enumerate(numbers.per_class):
        np.testing.assert_allclose(one.AP, run.eval["precision"][:, :, k, 0, 2].mean(), atol=1e-12)
        np.testing.assert_allclose(one.AP50, run.eval["precision"][0, :, k, 0, 2].mean(), atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"images": 1, "classes": 1, "found": 150}, {"crowds": 25}])
def test_overlaps_computed_at_once_are_those_of_the_library_to_the_last_bit(options):
    pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval")
    from faster_coco_eval import COCO, COCOeval_faster

    from detection.evaluate.coco import _cocos
    from detection.evaluate.faster_coco import overlaps_of

    truth, results = made_up(1, **options)
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval_faster(*_cocos(COCO, truth, results), "bbox")
        run.evaluate()
    overlaps = overlaps_of(truth, results, run.params.maxDets[-1])
    for (image, category), wanted in run.ious.items():
        assert np.array_equal(overlaps[image - 1][category - 1], wanted), "rows: results, best first"


@pytest.mark.parametrize("engine", ["pycocotools", "faster"])
def test_the_ground_truth_fed_back_scores_one(example, engine):
    truth, _ = example.read()
    numbers = evaluate(truth, perfect_results(truth), engine)
    assert (numbers.AP, numbers.AP50, numbers.AR100, numbers.APs, numbers.APl) == pytest.approx((1, 1, 1, 1, 1))


@pytest.mark.parametrize("engine", ["pycocotools", "faster"])
def test_nothing_found_is_ap_zero_and_no_crash(example, engine):
    truth, _ = example.read()
    numbers = evaluate(truth, no_results(), engine)
    assert set(numbers.twelve().values()) == {0.0}
    best = best_thresholds(truth, no_results()).overall
    assert (best.f1, best.recall) == (0, 0) and math.isnan(best.score)


@pytest.mark.parametrize("engine", ["pycocotools", "faster"])
def test_what_the_data_do_not_hold_is_nan_not_minus_one(engine):
    truth, results = made_up(0)
    small = truth.select(categories=[0, 1])
    large_only = np.sqrt(small.area) > 50
    large = GroundTruth(
        **{
            **vars(small),
            **{k: getattr(small, k)[large_only] for k in ("image", "category", "boxes", "area", "crowd")},
        }
    )
    numbers = evaluate(large, results.select(truth, None, [0, 1]), engine)
    assert math.isnan(numbers.APs) and math.isnan(numbers.ARs) and not math.isnan(numbers.AP)
    assert numbers.to_dict()["APs"] is None
    json.dumps(numbers.to_dict(), allow_nan=False)


@pytest.mark.parametrize("engine", ["pycocotools", "faster"])
def test_no_object_at_all_is_nan_everywhere(engine):
    truth, results = made_up(0, objects=0, crowds=0)
    assert all(math.isnan(value) for value in evaluate(truth, results, engine).twelve().values())
    assert math.isnan(best_thresholds(truth, results).overall.f1)


def test_an_object_with_id_zero_counts_like_any_other(tmp_path):
    """pycocotools takes a detection that is matched with the annotation 0 for unmatched; the engines agree here."""
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0, "id": 0}
    data = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": [box]}
    (tmp_path / "truth.json").write_text(json.dumps(data))
    truth = read_truth(tmp_path / "truth.json")
    for engine in ("pycocotools", "faster"):
        assert evaluate(truth, perfect_results(truth), engine).AP == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 40), st.integers(0, 10))
def test_matches_and_ap_equal_pycocotools_to_the_bit(seed, classes, objects, crowds):
    truth, results = made_up(seed, classes=classes, objects=objects, crowds=crowds)
    if not len(results):
        return
    run, matches = oracle(truth, results), match(truth, results)
    cells = [c for c in run.evalImgs if c is not None and c["aRng"] == [0, 1e10] and c["maxDet"] == 100]
    expected = {
        identity - 1: (cell["dtMatches"][:, j].astype(int) - 1, cell["dtIgnore"][:, j])
        for cell in cells
        for j, identity in enumerate(cell["dtIds"])
    }
    assert sorted(expected) == sorted(matches.detection)
    for column, index in enumerate(matches.detection):
        np.testing.assert_array_equal(matches.object[:, column], expected[index][0])
        np.testing.assert_array_equal(matches.ignored[:, column], expected[index][1])
    for k, part in enumerate(matches.class_slices()):
        if matches.positives[k]:
            ap = average_precision(matches.right[:, part], matches.wrong[:, part], matches.positives[k])
            np.testing.assert_allclose(ap, run.eval["precision"][:, :, k, 0, 2].mean(1), rtol=1e-13)


def test_only_a_hundred_detections_of_a_class_in_a_image_count():
    truth, _ = made_up(1, images=1, classes=1, objects=1, crowds=0)
    worse = np.repeat(truth.boxes + [300, 300, 0, 0], 100, 0)
    boxes, scores = np.concatenate([worse, truth.boxes]), np.append(np.full(100, 0.9), 0.1)
    zeros = np.zeros(101, np.int64)
    assert not match(truth, Results(zeros, zeros, boxes, scores)).right.any()
    assert match(truth, Results(zeros, zeros, boxes, 1 - scores)).right.all(1).sum() == 0  # one hit, the rest not
    assert match(truth, Results(zeros, zeros, boxes, 1 - scores)).right.sum() == len(COCO_IOUS)


def test_best_f1_is_the_best_of_all_thresholds():
    truth, results = made_up(3)
    best = best_thresholds(truth, results)
    matches = match(truth, results, [0.5])

    def f1_at(threshold, of):
        kept = (matches.score > threshold) & of
        hits, alarms = (matches.right[0] & kept).sum(), (matches.wrong[0] & kept).sum()
        positives = matches.positives[np.unique(matches.category[of])].sum()
        return 2 * hits / (hits + alarms + positives)

    for one, of in [(best.overall, np.ones(len(matches.score), bool))] + [
        (best.per_class[k], matches.category == k) for k in range(3)
    ]:
        tried = [f1_at(threshold, of) for threshold in np.arange(0, 1, 0.01)]
        assert one.f1 == pytest.approx(max(tried)) == pytest.approx(f1_at(one.score, of))
    assert 0 < best.overall.score < 1


def test_detections_on_crowds_neither_help_nor_harm():
    truth, _ = made_up(4, images=1, classes=1, objects=2, crowds=1)
    alone = perfect_results(truth)
    inside = truth.boxes[:1] + [1, 1, -2, -2]
    with_crowd = Results(
        np.zeros(3, np.int64), np.zeros(3, np.int64), np.concatenate([alone.boxes, inside, inside]), np.ones(3)
    )
    assert evaluate(truth, with_crowd).AP == evaluate(truth, alone).AP == pytest.approx(1)


def test_results_written_and_read_again_score_the_same(tmp_path, example):
    truth, results = example.read()
    write_results(tmp_path / "again.json", results, truth)
    assert evaluate(truth, read_results(tmp_path / "again.json", truth)) == evaluate(truth, results)


def test_the_command_writes_the_stable_json(tmp_path, example, capsys):
    common = ["eval", "--annotations", str(example.annotations)]
    results = ["--results", str(example.results)]
    out, table = tmp_path / "out.json", tmp_path / "out.csv"
    assert main([*common, *results, "--json", str(out), "--csv", str(table), "--errors"]) == 0
    numbers = json.loads(out.read_text())
    assert [numbers[name] for name in NAMES] == pytest.approx(example.twelve, abs=5e-4)
    assert numbers["images"] == example.images
    assert numbers["per_class"]["person"]["AP"] == pytest.approx(example.person, abs=1e-4)
    assert numbers["per_class"][example.absent]["AP"] is None
    assert set(numbers["errors"]["lost"]) == {
        *("classification", "localisation", "both", "duplicate", "background", "missed")
    }
    rows = table.read_text().splitlines()
    assert rows[0].startswith("class,id,objects") and len(rows) == example.classes + 2
    assert rows[1].startswith(f"all,,{example.objects},{example.detections},{str(example.twelve[0])[:4]}")
    printed = capsys.readouterr().out
    for words in (
        f"{example.twelve[0]:.3f}",
        "split val2014_100",
        f"{example.images} images",
        f"score threshold {min(row['score'] for row in json.loads(example.results.read_text())):.2f}",
        "NMS IoU unknown",
        "maxDets 1/10/100",
    ):
        assert words in printed


def test_the_command_compares_two_results(tmp_path, example, capsys):
    results, annotations = str(example.results), str(example.annotations)
    options = ["--versus", results, "--draws", "10", "--json", str(tmp_path / "o.json"), "--quiet"]
    assert main(["eval", "--annotations", annotations, "--results", results, *options]) == 0
    assert "no difference" in capsys.readouterr().out
    assert json.loads((tmp_path / "o.json").read_text())["versus"][0]["difference"] == 0


def test_the_self_test_passes_on_a_folder_of_coco(shared, capsys):
    assert main(["eval", "--self-test", "--annotations", str(shared / "data/coco_val500")]) == 0
    assert "self-test passed" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--json", "--csv", "--save-results"])
def test_dash_is_standard_output_and_words_go_beside_it(option, tmp_path, monkeypatch, example, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["eval", "--self-test", "--data", str(example.annotations)]
    assert main([*command, option, "file"]) == 0
    assert "self-test passed" in capsys.readouterr().out
    assert main([*command, option, "-"]) == 0
    out, err = capsys.readouterr()
    assert out == Path("file").read_text() and "self-test passed" in err and not Path("-").exists()
    assert main([*command, "--json", "-", "--csv", "-"]) == 2
    assert "--json - and --csv - cannot both be standard output" in capsys.readouterr().err


def test_the_self_test_passes_and_says_why_it_does_not(tmp_path, example, capsys):
    assert main(["eval", "--self-test", "--annotations", str(example.annotations)]) == 0
    printed = capsys.readouterr().out
    assert "AP  1.000" in printed and "self-test passed" in printed
    flat = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 0, 9]}
    data = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": [flat]}
    (tmp_path / "flat.json").write_text(json.dumps(data))
    assert main(["eval", "--self-test", "--annotations", str(tmp_path / "flat.json")]) == 2
    assert "1 boxes have no width or no height" in capsys.readouterr().err
