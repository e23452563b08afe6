"""Weights fitted to the classes of a data set: rows carried over by name, the rest begun anew, the function kept."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import train_runs as runs

from detection.boxes.class_names import COCO_80, VOC_20
from detection.data.build import build as build_data
from detection.data.coverage import coverage
from detection.errors import MobileSSDError
from detection.ssd.families import with_finer_map
from detection.ssd.heads import last_convolution
from detection.ssd.network import anchors_of, build, feature_maps
from detection.ssd.spec import SSDSpec
from detection.train.model import class_sources, from_scratch, from_weights
from detection.train.run import network_for, train
from detection.weights.card import Card
from detection.weights.checkpoint import load_checkpoint, save_checkpoint
from detection.weights.names import spec_for

NAMES = ("person", "dining table", "tv", "dog")
OPTIONS = {"alpha": 0.25, "input_size": 96}


def spoiled(spec):
    """A network in which no two numbers are equal, norms included."""
    torch.manual_seed(0)
    ssd = build(spec).eval()
    with torch.no_grad():
        for name, tensor in ssd.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.add_(
                    0.1 * torch.randn_like(tensor)
                )
    return ssd


@pytest.fixture(scope="module", params=["ssdlite_mobilenet_v2", "ssd_mobilenet_v1", "ssd_mobilenet_v2_fpnlite"])
def weights(request, tmp_path_factory):
    """A network of four classes and its file."""
    size = 128 if "fpn" in request.param else 96
    ssd = spoiled(spec_for(request.param, alpha=0.25, input_size=size).with_classes(len(NAMES)))
    path = tmp_path_factory.mktemp("weights") / "four.safetensors"
    save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), NAMES, (1, 67, 72, 18), feature_maps(ssd), name="four"))
    return str(path), ssd


def raw(ssd, size=None):
    height, width = size or ssd.spec.input.size
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return ssd.eval()(x)


def assert_equal(one, other):
    """The same rows; a convolution with another number of them may add in another order."""
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


class TestClassRows:
    def test_transferred_classes_keep_their_logits(self, weights):
        """In another order, under VOC's names, with a new class: boxes, background and known columns stay."""
        path, ssd = weights
        new = from_weights(path, ("dog", "unicorn", "diningtable", "tvmonitor"), (1, 2, 3, 4))
        (encodings, logits), (same_encodings, others) = raw(ssd), raw(new.ssd)
        assert_equal(encodings, same_encodings)
        assert_equal(logits[..., [0, 4, 2, 3]], others[..., [0, 1, 3, 4]])
        assert new.said[1] == (
            "classes: 4 - 3 continued (dog, diningtable from dining table, tvmonitor from tv), 1 new (unicorn)"
        )
        assert new.card.class_names == ("dog", "unicorn", "diningtable", "tvmonitor")
        assert new.card.category_ids == (1, 2, 3, 4) and new.card.spec["num_classes"] == 4

    def test_new_rows_begin_small_and_as_rare_as_the_old_classes(self, weights):
        path, ssd = weights
        new = from_weights(path, ("unicorn", "dog"), (1, 2)).ssd
        for old_head, head in zip(ssd.heads, new.heads, strict=True):
            old, fresh = last_convolution(old_head.score), last_convolution(head.score)
            rows = fresh.weight.reshape(-1, 3, *fresh.weight.shape[1:])[:, 1]
            assert 0 < rows.std() < 0.015
            bias = old.bias.reshape(-1, 5)[:, 1:].mean(1)
            torch.testing.assert_close(fresh.bias.reshape(-1, 3)[:, 1], bias)

    def test_the_same_classes_are_the_same_network(self, weights):
        path, ssd = weights
        new = from_weights(path, NAMES, (1, 2, 3, 4))
        for mine, other in zip(raw(ssd), raw(new.ssd)):
            assert torch.equal(mine, other)
        assert len(new.said) == 1

    def test_a_class_map_names_what_a_class_continues(self, weights):
        path, ssd = weights
        new = from_weights(
            path, ("goalkeeper", "table"), (1, 2), class_map={"goalkeeper": "person", "table": "diningtable"}
        )
        assert_equal(raw(ssd)[1][..., [0, 1, 2]], raw(new.ssd)[1])
        with pytest.raises(
            MobileSSDError, match="--class-map: the weights: no class 'unicorn'; the classes are person"
        ):
            from_weights(path, ("horse",), (1,), class_map={"horse": "unicorn"})
        with pytest.raises(MobileSSDError, match="--class-map: the data: no class 'hrose'; nearest: horse"):
            from_weights(path, ("horse",), (1,), class_map={"hrose": "person"})

    def test_another_input_size_keeps_every_weight(self, weights):
        path, ssd = weights
        size = (160, 192)
        new = from_weights(path, NAMES, (1, 2, 3, 4), size)
        assert new.ssd.spec.input.size == size and new.card.input_size == size
        assert new.card.feature_maps == feature_maps(new.ssd) != feature_maps(ssd)
        outputs = raw(new.ssd)
        for mine, other in zip(raw(ssd, size), outputs):
            assert torch.equal(mine, other)
        assert len(anchors_of(new.ssd)) == outputs[0].shape[1]

    @pytest.mark.parametrize("taller, wider, kept", [(0, 0, False), (0, -16, True), (0, 64, True), (-16, 64, True)])
    def test_another_input_keeps_the_pixels_of_the_anchors(self, weights, taller, wider, kept):
        path, ssd = weights
        height, width = ssd.spec.input.size
        new = from_weights(path, NAMES, (1, 2, 3, 4), (height + taller, width + wider))
        assert (new.ssd.spec.anchors.base == (height, width)) is kept
        line = f"the anchors keep the pixels that they have at {width}x{height}"
        assert (line in new.said) is kept

    def test_the_same_input_keeps_everything(self, weights):
        path, ssd = weights
        assert from_weights(path, NAMES, (1, 2, 3, 4), ssd.spec.input.size).ssd.spec == ssd.spec


def test_rows_are_carried_over_to_the_bit(weights):
    path, ssd = weights
    new = from_weights(path, ("dog", "unicorn", "person"), (1, 2, 3)).ssd
    for old_head, head in zip(ssd.heads, new.heads, strict=True):
        for part in ("weight", "bias"):
            old, fresh = (getattr(last_convolution(h.score), part) for h in (old_head, head))
            old, fresh = old.reshape(-1, 5, *old.shape[1:]), fresh.reshape(-1, 4, *fresh.shape[1:])
            assert torch.equal(old[:, [0, 4, 1]], fresh[:, [0, 1, 3]])


def test_the_names_of_voc_and_coco_are_one():
    sources = class_sources(VOC_20, tuple(COCO_80.values()), {})
    assert None not in sources and len(set(sources)) == 20
    names = tuple(COCO_80.values())
    found = {voc: names[i] for voc, i in zip(VOC_20, sources) if voc != names[i]}
    assert found == {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "pottedplant": "potted plant",
        "sofa": "couch",
        "tvmonitor": "tv",
    }
    assert class_sources(["Traffic_Light", "HOT-DOG"], names, {}) == [
        names.index("traffic light"),
        names.index("hot dog"),
    ]


def test_names_are_matched_as_eval_matches_them():
    """Training once knew "trafficlight" and "hot.dog" as new classes, which eval counted as the weights' own."""
    assert class_sources(["trafficlight", "Hot.Dog"], ("hot dog", "traffic light"), {}) == [1, 0]
    assert class_sources(["thing", "Thing"], ("Thing", "thing"), {}) == [1, 0]  # once both the last of the two


def test_a_published_file_keeps_its_function_for_the_classes_of_voc(v1_file):
    """The SSD of TensorFlow's mobile example, 90 columns, folded norms."""
    path = v1_file
    whole = from_weights(str(path), *coco_names(path))
    voc = from_weights(str(path), tuple(VOC_20), tuple(range(1, 21)))
    columns = [0, *(1 + i for i in class_sources(VOC_20, whole.card.class_names, {}))]
    (encodings, logits), (same_encodings, others) = raw(whole.ssd), raw(voc.ssd)
    assert_equal(encodings, same_encodings)
    assert_equal(logits[..., columns], others)
    assert whole.folded is whole.ssd and voc.folded is voc.ssd and not voc.card.folded_norms


def coco_names(path):
    from detection.weights.resolve import open_weights

    card = open_weights(path).card
    return card.class_names, card.category_ids


def test_an_exported_file_is_refused(tmp_path, monkeypatch):
    opened = SimpleNamespace(exported=True, path=tmp_path / "a.onnx", card=Card({}, ("cat",), (1,)))
    monkeypatch.setattr("detection.train.model.open_weights", lambda _: opened)
    with pytest.raises(MobileSSDError, match="an exported file cannot be trained"):
        from_weights("a.onnx", ("cat",), (1,))


def test_from_scratch_on_a_body(shared):
    """The body of a classifier goes in, its norms folded as in every file for inference; extras and heads are fresh."""
    path = shared / "models" / "imagenet" / "mobilenet_v1_0.25_128_quant.tflite"
    spec = spec_for("ssd_mobilenet_v1", alpha=0.25, input_size=128, min_depth=8)
    found, fresh = from_scratch(spec, ("cat",), (1,), str(path)), from_scratch(spec, ("cat",), (1,))
    assert found.folded is found.ssd.backbone and fresh.folded is None and "backbone from" in found.said[0]
    first = [next(one.ssd.backbone.parameters()) for one in (found, fresh)]
    assert first[0].shape == first[1].shape and not torch.allclose(*first)


def test_folded_norms_are_rebuilt_before_the_first_step(v1_file, tmp_path, monkeypatch):
    """Real statistics, and the same function: the checkpoint of step 0 says so."""
    import train_runs as runs

    from detection.train.run import train
    from detection.train.state import read_state

    data = runs.shapes(tmp_path / "data", 8)
    path = v1_file
    monkeypatch.setattr("detection.train.run.fit", lambda *_: None)
    monkeypatch.setattr("detection.train.run.finish", lambda *_, **__: None)
    start = {"model": None, "options": {}, "weights": str(path), "class_map": {"disc": "sports ball", "square": "tv"}}
    train(runs.request(data, tmp_path / "run", select=0.0, **start))
    state = read_state(tmp_path / "run").part("model")
    variances = [tensor for name, tensor in state.items() if name.endswith("running_var")]
    assert variances and not any(torch.equal(tensor, torch.ones_like(tensor)) for tensor in variances)
    before = from_weights(str(path), runs.CLASSES, (1, 2), (96, 96), start["class_map"]).ssd
    after = from_weights(str(path), runs.CLASSES, (1, 2), (96, 96), start["class_map"]).ssd
    after.load_state_dict(state)
    for mine, other in zip(raw(before), raw(after)):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=2e-3)


class TestAspectRatios:
    RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333, 6.0)

    def test_the_anchors_that_stay_predict_what_they_did_and_new_ones_begin_as_the_nearest(self, tmp_path):
        ssd = spoiled(spec_for("ssdlite_mobilenet_v2", **OPTIONS).with_classes(len(NAMES)))
        path = tmp_path / "four.safetensors"
        save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), NAMES, (1, 67, 72, 18), feature_maps(ssd)))
        new = from_weights(str(path), NAMES, (1, 67, 72, 18), aspect_ratios=self.RATIOS)
        assert new.ssd.spec.anchors.per_cell(6, (96, 96)) == (3, 7, 7, 7, 7, 7)
        assert "anchors of a cell, map by map: (3, 7, 7, 7, 7, 7)" in new.said
        old_anchors, anchors = anchors_of(ssd), anchors_of(new.ssd)
        (old_codes, old_logits), (codes, logits) = raw(ssd), raw(new.ssd)
        place = {tuple(anchor): i for i, anchor in enumerate(old_anchors.round(5).tolist())}
        same = [(i, place[tuple(a)]) for i, a in enumerate(anchors.round(5).tolist()) if tuple(a) in place]
        assert len(same) == len(old_anchors) and len(anchors) > len(same)
        here, there = map(list, zip(*same))
        assert_equal(codes[:, here], old_codes[:, there])
        assert_equal(logits[:, here], old_logits[:, there])
        first = 6 * 6 * 3  # of the second map's first cell, whose ratio 6 begins as ratio 3
        assert_equal(logits[:, first + 5], logits[:, first + 3])

    def test_only_what_weights_can_change_is_taken(self):
        config = runs.config(model=None, weights="any", options={"alpha": 0.5})
        with pytest.raises(MobileSSDError, match="options.alpha: weights have a network of their own"):
            network_for(config, None, {})
        config = runs.config(model=None, weights="any", options={"stride8": 8})
        with pytest.raises(MobileSSDError, match="options.stride8: 8 is neither true nor false"):
            network_for(config, None, {})
        with pytest.raises(MobileSSDError, match="a list of different numbers from 0.05 to 20, not 'wide'"):
            spec_for("ssdlite_mobilenet_v2", aspect_ratios="wide")
        with pytest.raises(MobileSSDError, match="goes with the anchors of tensorflow and torchvision, not of caffe"):
            spec_for("ssd_mobilenet_v1", layout="caffe", aspect_ratios=(1, 2))

    def test_the_advice_of_the_check_names_an_option_that_helps(self):
        """Banners of one by eight: what `data check` says of them is what training takes."""
        boxes = [[30, y, 270, y + 30] for y in range(0, 260, 20)]
        data = build_data(["banner"], ["1.jpg"], [0] * len(boxes), boxes, [0] * len(boxes), sizes=[[300, 300]])
        plain, wide = (spec_for("ssdlite_mobilenet_v2", **more) for more in ({}, {"aspect_ratios": self.RATIOS}))
        before, after = (coverage(data, anchors_of(build(spec)), (300, 300)) for spec in (plain, wide))
        assert "train --set options.aspect_ratios=[" in " ".join(before.advice)
        assert after.total.reached > before.total.reached

    def test_torchvisions_anchors_have_the_flip_of_each(self):
        spec = spec_for("ssdlite_mobilenet_v3_large", layout="torchvision", aspect_ratios=(1, 2, 0.5, 5))
        assert spec.anchors.options["ratios"] == ((2.0, 5.0),) * 6


class TestFinerMap:
    """Weights with one more map in front, for small objects."""

    @pytest.mark.parametrize("name", ["ssdlite_mobilenet_v2", "ssd_mobilenet_v1"])
    def test_all_that_was_there_stays_to_the_bit_and_the_new_head_begins_as_rare(self, name, tmp_path):
        ssd = spoiled(spec_for(name, **OPTIONS).with_classes(len(NAMES)))
        path = tmp_path / "four.safetensors"
        save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), NAMES, (1, 67, 72, 18), feature_maps(ssd)))
        new = from_weights(str(path), NAMES, (1, 67, 72, 18), stride8=True)
        assert feature_maps(new.ssd) == ((12, 12), *feature_maps(ssd)) and new.fresh == ("heads.0",)
        assert "its head, heads.0, begins anew" in new.said[-1]
        fresh = 12 * 12 * 4
        assert np.array_equal(anchors_of(new.ssd)[fresh:], anchors_of(ssd))
        sides = anchors_of(new.ssd)[:fresh, 2:].prod(1) ** 0.5 * 96
        assert sides.min() == pytest.approx(0.055 * 96) and sides.max() == pytest.approx(0.08 * 96)
        (old_codes, old_logits), (codes, logits) = raw(ssd), raw(new.ssd)
        assert torch.equal(codes[:, fresh:], old_codes) and torch.equal(logits[:, fresh:], old_logits)
        head = last_convolution(new.ssd.heads[0].score).bias.reshape(4, -1)
        torch.testing.assert_close(head[2], last_convolution(ssd.heads[0].score).bias.reshape(3, -1).mean(0))

    def test_at_another_size_and_with_other_classes_too(self, tmp_path):
        ssd = spoiled(spec_for("ssdlite_mobilenet_v2", **OPTIONS).with_classes(len(NAMES)))
        path = tmp_path / "four.safetensors"
        save_checkpoint(path, ssd, Card(ssd.spec.to_dict(), NAMES, (1, 67, 72, 18), feature_maps(ssd)))
        plain = from_weights(str(path), ("dog", "unicorn"), (1, 2), (128, 160), aspect_ratios=(1, 2, 0.5))
        new = from_weights(str(path), ("dog", "unicorn"), (1, 2), (128, 160), aspect_ratios=(1, 2, 0.5), stride8=True)
        added = len(anchors_of(new.ssd)) - len(anchors_of(plain.ssd))
        assert added == 16 * 20 * 4
        assert_equal(raw(new.ssd)[0][:, added:], raw(plain.ssd)[0])
        again = SSDSpec.from_dict(new.ssd.spec.to_dict())
        assert np.array_equal(anchors_of(new.ssd), anchors_of(build(again)))

    def test_where_there_is_no_place_for_it_is_one_line(self):
        with pytest.raises(MobileSSDError, match="reads the map of stride 8, expand6, already"):
            with_finer_map(spec_for("ssdlite_mobilenet_v2", stride8=True))
        with pytest.raises(MobileSSDError, match="stride8: there is none for this network"):
            with_finer_map(spec_for("ssd_mobilenet_v2_fpnlite"))
        with pytest.raises(MobileSSDError, match="stride8: there is none for this network"):
            with_finer_map(spec_for("ssd300_vgg16"))

    def test_the_head_alone_learns(self, v1_file, tmp_path):
        """From folded norms: all that is frozen is the file's, to the bit, its norms too."""
        data = runs.shapes(tmp_path / "data", 8)
        start = {"model": None, "weights": str(v1_file), "class_map": {"disc": "sports ball", "square": "tv"}}
        frozen = ["backbone", "extras", *(f"heads.{i}" for i in range(1, 7))]
        run = runs.request(
            data, tmp_path / "run", select=0.0, steps=2, options={"stride8": True}, freeze=frozen, **start
        )
        train(run)
        before = from_weights(str(v1_file), runs.CLASSES, (1, 2), (96, 96), start["class_map"], stride8=True).ssd
        after, _ = load_checkpoint(tmp_path / "run" / "last.safetensors")
        one, other = before.state_dict(), after.state_dict()
        changed = {n for n in one if not n.endswith("num_batches_tracked") and not torch.equal(one[n], other[n])}
        assert changed and all(name.startswith("heads.0.") for name in changed)


def test_the_backbone_of_a_whole_detector_is_said_to_be_a_part_of_it(tmp_path):
    """AP 0 behind a short training puzzles whoever thinks that heads were taken, too."""
    spec = spec_for("ssd_mobilenet_v1", alpha=0.25, input_size=96, num_classes=2)
    whole = from_scratch(spec, ("cat", "dog"), (1, 2))
    path = tmp_path / "whole.safetensors"
    save_checkpoint(path, whole.ssd, whole.card)
    said = from_scratch(spec, ("bird",), (1,), str(path)).said[0]
    assert f"{path} is a whole detector of this network: to go on with all of it, leave --model out" in said
    other = from_scratch(
        spec_for("ssdlite_mobilenet_v1", alpha=0.25, input_size=96, num_classes=2), ("a",), (1,), str(path)
    )
    assert "whole detector" not in other.said[0]
