"""Which class name is which: one rule for models, data sets and what people type."""

import numpy as np
import pytest

from detection.boxes.class_names import COCO_80, VOC_20, ClassNames, match, meaning, spelling, without_doubles
from detection.boxes.detections import Detections
from detection.errors import MobileSSDError, nearest

COCO = tuple(COCO_80.values())


@pytest.mark.parametrize("name", ["Dining_Table", "diningtable", "DINING-TABLE", " dining  table ", "dining.table"])
def test_case_spaces_and_punctuation_do_not_matter(name):
    assert spelling(name) == "diningtable"


@pytest.mark.parametrize("one,other", [("C", "C++"), ("C#", "C"), ("1.5 l", "15 l"), ("1/2", "12"), ("🐱", "🐶")])
def test_signs_that_tell_classes_apart_are_kept(one, other):
    assert spelling(one) != spelling(other) and meaning(one) != meaning(other)


@pytest.mark.parametrize("name", ["", "???", "unused 12", " "])
def test_a_column_without_a_class_matches_nothing(name):
    assert spelling(name) == "" and ClassNames(["person", name]).find(name) == []
    assert match([name, "dog"], ["dog", name]) == match([name, "dog"], ["dog", ""])


def test_the_names_of_voc_are_those_of_coco():
    found = match(VOC_20, COCO)
    assert None not in found.to and not found.missing and len(found.left) == 60


def test_composed_and_decomposed_letters_are_one():
    assert ClassNames(["caf\u00e9"]).find("cafe\u0301") == [0]


class TestNamesThatCollide:
    """The exact spelling wins, then the same spelling but for case, then the same thing in other words."""

    def test_each_keeps_its_own_where_both_lists_have_both(self):
        assert match(["thing", "Thing"], ["Thing", "thing"]).to == (1, 0)
        assert match(["sofa", "couch"], ["Couch", "Sofa"]).to == (1, 0)

    def test_two_may_lead_to_one(self):
        assert match(["Thing", "thing"], ["thing"]).to == (0, 0)

    def test_one_that_could_be_either_is_ambiguous_and_not_guessed(self):
        found = match(["THING", "dog"], ["Thing", "thing", "dog"])
        assert found.to == (None, 2) and found.ambiguous == found.missing == ("THING",)
        assert found.left == ("Thing", "thing")

    def test_ids_choose_between_equal_names_and_match_nothing_alone(self):
        assert match(["mouse"], ["mouse", "mouse"], [74], [1, 74]).to == (1,)
        assert match(["mouse"], ["mouse", "mouse"], [5], [1, 74]).ambiguous == ("mouse",)
        assert match(["bicycle"], ["car"], [2], [2]).to == (None,)

    def test_choosing_takes_all_that_a_name_stands_for(self):
        names = ClassNames(["Thing", "thing", "dog", "dog"])
        assert names.choose(["dog", "thing"], "x") == [2, 3, 1]
        assert names.choose(["THING", "Dog", "thing"], "x") == [0, 1, 2, 3]

    def test_one_list_without_its_doubles(self):
        assert without_doubles(["thing", "dog", "Thing", "thing", "sofa", "couch", "", "???"]) == (
            ("thing", "dog", "sofa", "couch", "", "???"),
            [0, 1, 0, 0, 2, 3, 4, 5],
        )


def test_an_unknown_class_offers_the_nearest():
    with pytest.raises(MobileSSDError, match="^w.onnx: no class 'Purson'; nearest: person$"):
        ClassNames(COCO).choose(["dog", "Purson"], "w.onnx")
    with pytest.raises(MobileSSDError, match="^w.onnx: no class 'xyzzy'; the classes are person, .* and 70 more$"):
        ClassNames(COCO).choose(["xyzzy"], "w.onnx")


def test_the_nearest_word_whatever_its_case():
    assert nearest("PERSN", ["dog", "Person"]) == ["Person"] and nearest("qq", ["dog"]) == []


def test_detections_can_be_chosen_by_any_spelling():
    found = Detections(np.zeros((2, 4)), np.ones(2), np.array([0, 1]), ("dining table", "dog"), (9, 9))
    assert found.of_classes(["Dining_Table"]).names == ["dining table"]
    with pytest.raises(MobileSSDError, match="no class 'dg'; nearest: dog"):
        found.of_classes(["dg"])
