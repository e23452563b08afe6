"""Views: what is seen where, which boxes are trusted, and how they become one answer."""

import pickle
from dataclasses import replace

import bulk_help as bulk
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection import Detector
from detection.boxes.detections import Detections
from detection.boxes.postprocess import PostSettings
from detection.errors import MobileSSDError
from detection.export.graphs import write_onnx
from detection.images.decode import read_image
from detection.views import TRUST, View, joined, merge_views, parse
from detection.weights.checkpoint import load_checkpoint

OWN = (300, 300)
NAMES = ("person", "car")


def found(*rows):
    """Detections of one view, in fractions: (x1, y1, x2, y2, score, class)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), NAMES, (1, 1))


class TestPlans:
    def test_one_pass_is_the_whole_image(self):
        (view,) = parse("1").views((480, 640), OWN)
        assert view == View((0, 0, 640, 480), OWN)

    def test_of_several_scales_the_smallest_is_trusted_in_all(self):
        views = parse("512,300").views((480, 640), OWN)
        assert [(view.size, view.most) for view in views] == [((300, 300), np.inf), ((512, 512), TRUST)]

    def test_the_whole_image_is_always_among_them(self):
        assert parse("2x2").views((480, 640), OWN)[0].region == (0, 0, 640, 480)
        assert len(parse("2x2").views((480, 640), OWN)) == 5 == len(parse("1+2x2").views((480, 640), OWN))

    def test_tiles_show_a_large_image_at_the_networks_own_scale_and_at_halves_of_it(self):
        views = parse("tiles").views((2160, 3840), OWN)[1:]
        sides = [max(view.region[2] - view.region[0], view.region[3] - view.region[1]) for view in views]
        near = [[side for side in sides if 0.8 * tile < side <= tile] for tile in (300, 600, 1200, 2400)]
        assert [len(some) for some in near] == [252, 60, 15, 2] and sum(map(len, near)) == len(views)
        assert len(parse("tiles@0.2").views((2160, 3840), OWN)) == 195

    @pytest.mark.parametrize("side", [250, 420, 1000, 2000])
    def test_an_object_of_any_size_is_whole_and_not_small_in_some_tile(self, side):
        views = parse("tiles").views((2160, 3840), OWN)
        for left, top in ((0, 0), (777, 131), (3840 - side, 2160 - side), (1500, 160)):
            box = np.array([left, top, left + side, top + side])
            whole = [v for v in views if (box[:2] >= v.region[:2]).all() and (box[2:] <= v.region[2:]).all()]
            assert max(side / (v.region[2] - v.region[0]) for v in whole) > 0.15

    def test_an_image_no_larger_than_a_tile_has_none(self):
        assert len(parse("tiles").views((300, 200), OWN)) == 1

    def test_mirror_doubles_the_whole_views(self):
        views = parse("300,512+mirror").views((480, 640), OWN)
        assert [(view.size[0], view.mirrored) for view in views] == [
            (300, False),
            (512, False),
            (300, True),
            (512, True),
        ]

    def test_what_is_named_twice_is_seen_once(self):
        assert len(parse("300,300+mirror+mirror").views((480, 640), OWN)) == 2

    def test_which_networks_are_needed(self):
        assert parse("512,300+2x2").sizes(OWN) == [(300, 300), (512, 512)]

    @given(
        st.integers(20, 3000),
        st.integers(20, 3000),
        st.integers(1, 6),
        st.integers(1, 6),
        st.sampled_from([0, 0.2, 0.5]),
    )
    def test_a_grid_covers_the_image_and_stays_in_it(self, height, width, columns, rows, overlap):
        views = parse(f"{columns}x{rows}@{overlap}" if overlap else f"{columns}x{rows}@0").views((height, width), OWN)[
            1:
        ]
        if columns * rows == 1:
            assert not views
            return
        seen = np.zeros((height, width), bool)
        for view in views:
            x1, y1, x2, y2 = view.region
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
            assert view.inner == (x1 > 0, y1 > 0, x2 < width, y2 < height)
            seen[y1:y2, x1:x2] = True
        assert seen.all()

    @pytest.mark.parametrize(
        "text, words",
        [
            *(
                (text, "is no view")
                for text in ("", "x", "0x2", "2x0", "300,", "300x", "300,512px", "tiles;", "5", "mirrors")
            ),
            ("16", "16 pixels are too few for a network"),
            ("2x2@0.95", "an overlap of 0.95 of a tile is too much; at most 0.9"),
            ("tiles@1", "an overlap of 1 of a tile is too much"),
            ("1000x1000", "1000 x 1000 tiles are more than 400"),
            ("5000x1", "5000 x 1 tiles are more than 400"),
            ("auto", "that is for moving images"),
        ],
    )
    def test_what_is_no_view_is_one_line(self, text, words):
        with pytest.raises(MobileSSDError, match=words) as error:
            parse(text)
        assert "\n" not in str(error.value) and f"views {text}" in str(error.value)

    @pytest.mark.parametrize("tiles", ["300", "mirror", "", "foo"])
    def test_tiles_that_are_none_are_one_line(self, tiles):
        """A size for --tiles was once a second scale, or nothing at all."""
        with pytest.raises(MobileSSDError, match=f"tiles {tiles}: tiles are written as in 2x2, 3x2@0.2"):
            joined(None, tiles)
        assert joined("300,512", "2x2+tiles@0.2") == "300,512+2x2+tiles@0.2" and joined("300", None) == "300"

    def test_too_many_tiles_are_refused(self):
        with pytest.raises(MobileSSDError, match="more than 400; less overlap, as in tiles@0.2, or a grid"):
            parse("tiles").views((9000, 9000), OWN)

    def test_tiles_keep_more_boxes_than_one_image_does_unless_told(self, weights):
        assert Detector(weights).with_views("tiles").settings.max_detections == 1000
        assert Detector(weights, max_detections=7).with_views("tiles").settings.max_detections == 7
        assert Detector(weights).with_rules(max_detections=100).with_views("tiles").settings.max_detections == 100
        assert Detector(weights, views="2x2").settings.max_detections == 100


class TestMerging:
    def test_a_box_of_a_tile_lies_where_the_tile_lies(self):
        view = View((320, 240, 640, 480), OWN, inner=(True, True, False, False))
        merged = merge_views([view], [found((0.5, 0.5, 1, 1, 0.9, 1))], PostSettings(), (480, 640))
        assert merged.boxes.tolist() == [[480, 360, 640, 480]] and merged.names == ["car"]

    def test_what_an_inner_border_cuts_is_dropped_and_what_the_images_border_cuts_is_kept(self):
        view = View((320, 0, 640, 480), OWN, inner=(True, False, False, False))
        boxes = found((0, 0.2, 0.3, 0.5, 0.9, 0), (0.7, 0.2, 1, 0.5, 0.8, 0))
        merged = merge_views([view], [boxes], PostSettings(), (480, 640))
        assert merged.boxes[:, 0].tolist() == [pytest.approx(320 + 0.7 * 320)]

    @pytest.mark.parametrize("score, kept", [(0.4, 1), (0.59, 1), (0.65, 2)])
    def test_what_tiles_at_the_networks_scale_cut_stays_where_no_view_has_the_whole(self, score, kept):
        """Of a part and its whole the whole stays, if it is at least three quarters as sure; a part of nothing stays."""
        left = View((0, 0, 400, 400), OWN, inner=(False, False, True, False), keeps_cut=True)
        whole = View((0, 0, 1000, 400), OWN)
        part = found((0.7, 0.2, 1, 0.6, score, 0))  # 280 to 400
        seen = found((0.28, 0.2, 0.6, 0.6, 0.45, 0))  # 280 to 600: within the view the same
        settings = PostSettings(merge="vote")
        merged = merge_views([left, whole], [part, seen], settings, (400, 1000))
        assert len(merged) == kept and [280, 80, 600, 160 + 80] in [pytest.approx(b) for b in merged.boxes.tolist()]
        other = found(
            (0.28, 0.2, 0.6, 0.6, 0.45, 1), (0.28, 0.1, 0.6, 1, 0.45, 0)
        )  # of another class, and of another shape
        assert len(merge_views([left, whole], [part, other], settings, (400, 1000))) == 3
        dropped = merge_views([replace(left, keeps_cut=False), whole], [part, other], settings, (400, 1000))
        assert len(dropped) == 2

    def test_only_tiles_at_the_networks_own_scale_keep_what_they_cut(self):
        assert all(view.keeps_cut for view in parse("tiles").views((2160, 3840), OWN)[1:])
        assert not any(view.keeps_cut for view in parse("300,512+4x3").views((2160, 3840), OWN))

    def test_large_boxes_of_a_large_scale_are_left_to_the_small_one(self):
        large = View((0, 0, 640, 480), (512, 512), TRUST)
        side = (TRUST + 1) / 512
        boxes = found((0, 0, side, side, 0.9, 0), (0.5, 0.5, 0.5 + side - 0.01, 0.5 + side - 0.01, 0.8, 0))
        assert len(merge_views([large], [boxes], PostSettings(), (480, 640))) == 1

    def test_a_mirrored_view_is_turned_back(self):
        view = View((0, 0, 100, 100), OWN, mirrored=True)
        merged = merge_views([view], [found((0.1, 0.2, 0.3, 0.4, 0.9, 0))], PostSettings(), (100, 100))
        assert merged.boxes.tolist() == [pytest.approx([70, 20, 90, 40])]
        image = np.zeros((4, 300, 3), np.uint8)
        image[:, 0] = 255
        assert view.pixels(np.repeat(image[:, :100], 25, 0))[0, -1, 0] == 255

    def test_two_views_of_one_object_become_one_box_between_them(self):
        views = parse("300,512").views((100, 100), OWN)
        boxes = [
            found((0.1, 0.1, 0.3, 0.3, 0.9, 0)),
            found((0.1, 0.1, 0.32, 0.3, 0.6, 0), (0.1, 0.1, 0.3, 0.3, 0.2, 1)),
        ]
        merged = merge_views(views, boxes, PostSettings(merge="vote"), (100, 100))
        assert merged.boxes[0].tolist() == [pytest.approx(side) for side in (10, 10, 30.8, 30)]
        assert merged.scores.tolist() == [pytest.approx(0.9), pytest.approx(0.2)] and merged.names == ["person", "car"]

    def test_nothing_found_is_nothing(self):
        views = parse("300,512").views((100, 100), OWN)
        assert len(merge_views(views, [found(), found()], PostSettings(), (100, 100))) == 0


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return bulk.tiny_weights(tmp_path_factory.mktemp("weights")).with_suffix(".safetensors")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return sorted(bulk.save_images(tmp_path_factory.mktemp("images"), 4).glob("*"))


class TestDetector:
    def test_one_view_is_the_detector_itself(self, weights, images):
        plain, viewed = Detector(weights, score=0.01), Detector(weights, score=0.01, views="1")
        assert viewed.plan is None
        for one, other in zip(plain(images), viewed(images)):
            assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)

    def test_views_are_those_of_single_detectors_merged(self, weights, images):
        own = Detector(weights).input_size
        size = own[0] + 64
        detector = Detector(weights, score=0.01, views=f"{own[0]},{size}")
        plain = Detector(weights, score=0.01)
        large = Detector(weights, score=0.01, input_size=size)
        for image in images:
            pixels = read_image(image)
            parts = []
            for single in (plain, large):
                voting = replace(single.postprocessor, settings=replace(single.settings, merge="vote"))
                ((_, encodings, logits),) = single.compute([single.see(pixels)])[0]
                parts.append(voting(encodings, logits, (1, 1)))
            views = detector.plan.views(pixels.shape[:2], own)
            expected = merge_views(views, parts, detector.settings, pixels.shape[:2])
            found = detector(image)
            assert len(found) > 5 and found.scores == pytest.approx(expected.scores, abs=1e-6)
            assert found.boxes == pytest.approx(expected.boxes, abs=1e-3)

    def test_batches_and_streams_find_the_same(self, weights, images):
        detector = Detector(weights, score=0.01, tiles="2x2")
        singly = [detector(image) for image in images]
        for found in (detector(images), list(detector.stream(images, batch=3))):
            for one, other in zip(singly, found):
                assert one.boxes == pytest.approx(other.boxes, abs=1e-3) and one.names == other.names

    def test_a_call_may_ask_for_tiles_and_a_pickle_keeps_them(self, weights, images):
        detector = Detector(weights, score=0.01)
        tiled = Detector(weights, score=0.01, tiles="2x2")
        found = detector(images[0], tiles="2x2")
        assert np.array_equal(found.boxes, tiled(images[0]).boxes) and detector.plan is None
        again = pickle.loads(pickle.dumps(tiled))
        assert np.array_equal(found.boxes, again(images[0]).boxes)

    def test_sizes_may_be_of_any_step_and_too_large_ones_are_one_line(self, weights, images):
        detector = Detector(weights, score=0.01)
        assert all(len(detector(images[0], views=f"96,{size}")) for size in (33, 97))
        with pytest.raises(MobileSSDError, match="9999") as error:
            detector.with_views("96,9999")
        assert "\n" not in str(error.value) and len(str(error.value)) < 500
        assert str(weights) in str(error.value), "it names the weights"

    def test_sizes_that_the_network_cannot_take_are_one_line(self, weights):
        exported = weights.with_suffix(".onnx")
        network, card = load_checkpoint(weights)
        write_onnx(network, exported, card)
        with pytest.raises(MobileSSDError, match="an exported file has one input size, here 96x96"):
            Detector(exported, views="96,160")
        assert len(Detector(exported, tiles="2x2", score=0.01)(np.zeros((200, 200, 3), np.uint8))) >= 0
