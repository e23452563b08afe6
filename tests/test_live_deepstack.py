"""`POST /v1/vision/detection`: what programs that speak to DeepStack send and get; the limits are those of POST /detect."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from live_help import FakeDetector, save_video
from test_live_page import IMAGE, Page, png_header

from detection.live.detect_api import FORM_ROOM
from detection.live.forms import MOST_FIELDS, boundary_of, fields_of
from detection.live.openapi import DEEPSTACK
from detection.live.upload_api import LARGEST_IMAGE

httpx = pytest.importorskip("httpx", reason="needs httpx")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return save_video(tmp_path_factory.mktemp("film") / "film.avi", frames=30, fps=30)


@pytest.fixture(scope="module")
def page(film):
    page = Page([f"front={film}"], FakeDetector(), loop=True)
    yield page
    page.close()


def post(page, files, path=DEEPSTACK, **more):
    return httpx.post(f"http://127.0.0.1:{page.port}{path}", files=files, timeout=30, **more)


def test_a_form_with_an_image_gets_predictions(page):
    answer = post(page, {"image": ("a.jpg", io.BytesIO(IMAGE), "image/jpeg")}, data={"api_key": "x"}).json()
    assert answer.pop("duration") >= 0
    box = {"x_min": 20, "y_min": 15, "x_max": 60, "y_max": 45}
    (found,) = answer.pop("predictions")
    assert found.pop("confidence") == pytest.approx(0.9)
    assert answer == {"success": True} and found == {"label": "dog", **box}
    assert all(type(value) is int for key, value in found.items() if key != "label")


def test_min_confidence_is_the_threshold(page):
    for wanted, number in (("0.95", 0), ("0.5", 1)):
        answer = post(page, {"image": IMAGE}, data={"min_confidence": wanted})
        assert len(answer.json()["predictions"]) == number
    for wrong in ("often", "nan", "2", ""):
        answer = post(page, {"image": IMAGE}, data={"min_confidence": wrong})
        assert answer.status_code == 400 and "min_confidence" in answer.json()["error"]


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({"picture": IMAGE}, 400, "no image"),
        ({"image": b""}, 400, "no image"),
        ({"image": b"this is no image"}, 415, "no image"),
        ({"image": IMAGE[: len(IMAGE) // 2]}, 422, "cut short"),
        ({"image": png_header(30_000, 30_000)}, 413, "30000 x 30000"),
        ({"image": bytes(LARGEST_IMAGE + 1)}, 413, "larger than 32 MB"),
        ({"image": IMAGE, "more": bytes(LARGEST_IMAGE + FORM_ROOM)}, 413, "larger than 32 MB"),
        ({"image": IMAGE} | {f"f{n}": b"x" for n in range(MOST_FIELDS)}, 400, "fields"),
    ],
)
def test_errors_are_those_of_detect_with_success_false(page, files, status, words):
    answer = post(page, files)
    assert (answer.status_code, answer.json()["success"]) == (status, False) and words in answer.json()["error"]


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "multipart/form-data", "multipart/mixed; boundary=x", "multipart/form-data; boundary="]
)
def test_what_is_no_form_is_refused_with_the_way_out(page, kind):
    status, answer = page.json(DEEPSTACK, IMAGE, Content_Type=kind)
    assert status == 415 and "curl -F image=@dog.jpg" in answer["error"] and answer["success"] is False


def test_others_need_the_token_which_may_stand_in_the_address(film):
    page = Page([f"front={film}"], loop=True, host="0.0.0.0")
    try:
        assert post(page, {"image": IMAGE}).status_code == 401
        assert post(page, {"image": IMAGE}, params={"token": page.token}).status_code == 200
        assert post(page, {"image": IMAGE}, headers={"Authorization": f"Bearer {page.token}"}).status_code == 200
    finally:
        page.close()


# ---------------------------------------------------------------- the form


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    some.dictionaries(
        some.text(some.characters(min_codepoint=97, max_codepoint=122), min_size=1), some.binary(), max_size=5
    )
)
def test_a_form_comes_back_as_it_was_sent(values):
    request = httpx.Request("POST", "http://x/", files=values or {"none": b""})
    data = request.read()
    fields = fields_of(data, boundary_of(request.headers["content-type"]))
    assert fields == (values or {"none": b""})
    for cut in range(0, len(data) - 4, 7):
        with pytest.raises(ValueError, match="form"):
            fields_of(data[:cut], boundary_of(request.headers["content-type"]))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(some.binary(max_size=60), some.text(max_size=40))
def test_anything_is_a_form_or_a_value_error(data, head):
    boundary_of("multipart/form-data; boundary=" + head)
    for whole in (
        data,
        b"--x" + data,
        b"--x\r\n\r\n\r\n--x" + data,
        b"--x\r\nContent-Disposition:" + data + b"\r\n\r\n\r\n--x--",
    ):
        try:
            fields_of(whole, b"x")
        except ValueError as error:
            assert "\n" not in str(error)
