"""The page in a real browser: boxes, slider, filter, snapshot, the visitor's camera, phone width, other origins."""

import http.server
import json
import threading

import numpy as np
import pytest
from browser import Browser, missing
from live_help import CameraServer, FakeDetector, save_video
from test_live_page import Page

from detection.boxes.detections import Detections
from detection.images.decode import read_image

if missing():
    pytest.skip(missing(), allow_module_level=True)


class TwoThings(FakeDetector):
    """A dog of 0.9 at the left and a cat of 0.5 at the right of every image."""

    def __call__(self, image):
        height, width = image.shape[:2]
        boxes = np.array([[0, 0, 0.4, 0.9], [0.6, 0.2, 1, 1]], np.float32) * [width, height, width, height]
        found = boxes.astype(np.float32), np.array([0.9, 0.5], np.float32), np.array([0, 1])
        return Detections(*found, self.class_names, (height, width), (18, 17))


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    film = save_video(tmp_path_factory.mktemp("film") / "film.avi", frames=60, fps=20, size=(240, 320))
    page = Page([f"front={film}"], TwoThings(), loop=True)
    yield page
    page.close()


@pytest.fixture
def tab(browser, server):
    tab = browser.page(server.url)
    tab.until("window.mobilessd && mobilessd.tiles[0].shown.length")
    yield tab
    assert tab.problems == []
    tab.close()


def slide(tab, value):
    tab.js(
        f"(() => {{ const s = document.getElementById('score'); s.value = {value};"
        "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def test_boxes_appear_within_two_seconds(browser, server):
    tab = browser.page(server.url)
    tab.until("window.mobilessd && mobilessd.tiles[0].shown.length == 2")
    assert tab.js("performance.now()") < 2000
    tab.close()


def test_the_slider_hides_boxes_without_asking_the_server(tab):
    tab.js("mobilessd.tiles[0].hold(true)")  # the same frame before and after
    tab.js("new Promise(done => setTimeout(done, 300))")
    before = tab.js("mobilessd.tiles[0].canvas.toDataURL()")
    tab.requests.clear()
    slide(tab, 0.6)
    assert tab.js("mobilessd.tiles[0].shown.map(row => row[1])") == [0.9]
    assert tab.js("document.getElementById('score-text').textContent") == "0.60"
    after = tab.js("mobilessd.tiles[0].canvas.toDataURL()")
    slide(tab, 0.95)
    assert tab.js("mobilessd.tiles[0].shown.length") == 0
    slide(tab, 0.3)
    assert tab.js("mobilessd.tiles[0].shown.length") == 2 and before != after
    assert before == tab.js("mobilessd.tiles[0].canvas.toDataURL()")
    assert not [url for url in tab.requests if url.startswith("http")]


def test_classes_are_counted_and_filtered(tab):
    tab.until("document.querySelectorAll('#classes [data-index]').length == 2")
    text = tab.until(
        "[...document.querySelectorAll('#classes li')].map(li => li.innerText.replace(/\\s+/g, ' ')).join()"
    )
    assert text == "dog 1,cat 1"
    tab.js("document.querySelector('#classes [data-index=\"1\"] button').click()")
    assert tab.js("mobilessd.tiles[0].shown.map(row => row[0])") == [0]
    tab.js("document.getElementById('none').click()")
    assert tab.js("mobilessd.tiles[0].shown.length") == 0
    tab.js("document.getElementById('all').click()")
    assert tab.js("mobilessd.tiles[0].shown.length") == 2


def test_counts_over_time_follow_the_slider(tab):
    counts = "import('/static/chart.js').then(c => c.countsOf(mobilessd.tiles).map(m => m && m.size).filter(Boolean))"
    tab.until(f"{counts}.then(list => list.length && list.every(n => n == 2))")
    slide(tab, 0.6)
    assert set(tab.js(counts)) == {1}


def test_a_clock_that_is_set_back_does_not_stop_the_chart(tab):
    counts = "import('/static/chart.js').then(c => c.countsOf(mobilessd.tiles).filter(Boolean).length)"
    tab.until(f"{counts}.then(n => n > 0)")
    tab.js("(() => { Date.now = () => 0; mobilessd.tiles[0].samples = []; })()")
    tab.until(f"{counts}.then(n => n > 0)")


def test_labels_can_be_left_out(tab):
    tab.js("mobilessd.tiles[0].hold(true)")
    tab.js("new Promise(done => setTimeout(done, 300))")
    images = {tab.js("mobilessd.tiles[0].canvas.toDataURL()")}
    for switch in ("scores", "labels", "boxes"):
        tab.js(f"document.getElementById('{switch}').click()")
        images.add(tab.js("mobilessd.tiles[0].canvas.toDataURL()"))
    assert len(images) == 4


def test_a_snapshot_is_the_image_and_its_boxes_as_coco(tab, tmp_path):
    slide(tab, 0.6)
    downloads = []
    tab.tab.on("download", lambda download: downloads.append(download))
    tab.js("document.querySelector('[data-do=snapshot]').click()")
    tab.until("!document.getElementById('notice').hidden")
    while len(downloads) < 2:
        tab.tab.wait_for_timeout(50)
    for download in downloads:
        download.save_as(tmp_path / download.suggested_filename)
    image, text = sorted(tmp_path.iterdir())
    assert read_image(image).shape == (240, 320, 3)
    data = json.loads(text.read_text())
    assert data["images"][0] | {"date_captured": ""} == {
        "id": 1,
        "file_name": image.name,
        "width": 320,
        "height": 240,
        "date_captured": "",
    }
    assert [(one["category_id"], one["bbox"], one["score"]) for one in data["annotations"]] == [
        (18, [0, 0, 128, 216], 0.9)
    ]
    assert data["categories"] == [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}]


def test_the_network_looks_where_something_moves_at_a_click(tab, server):
    pressed = "document.querySelector('[data-do=motion]').getAttribute('aria-pressed')"
    tab.until("mobilessd.tiles[0].status.motion === false")
    assert tab.js(f"document.querySelector('[data-do=motion]').hidden || {pressed}") == "false"
    for on in (True, False):
        tab.js("document.querySelector('[data-do=motion]').click()")
        tab.until(f"mobilessd.tiles[0].status.motion === {json.dumps(on)} && {pressed} === '{json.dumps(on)}'")
        assert server.json("/api/status")[1]["front"]["motion"] is on


def test_the_visitors_own_camera(tab):
    tab.js("document.getElementById('camera').click()")
    tab.until(
        "mobilessd.tiles.length == 2 && mobilessd.tiles[1].frames > 5 && mobilessd.tiles[1].shown.length == 2", 20
    )
    size = tab.js("mobilessd.tiles[1].packet.size")
    assert max(size) == 640, "what is sent is no larger than needed"
    tab.js("document.querySelector('.tile:last-child [data-do=close]').click()")
    assert tab.js("mobilessd.tiles.length") == 1


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(browser, server, width):
    tab = browser.page(server.url, width, 800, 2 if width < 500 else 1, phone=width < 500)
    tab.until("window.mobilessd && mobilessd.tiles[0].shown.length")
    assert tab.js("document.documentElement.scrollWidth") <= width
    image = tab.js("(r => [r.left, r.right])(mobilessd.tiles[0].canvas.getBoundingClientRect())")
    assert image[0] >= 0 and image[1] <= width and image[1] - image[0] > width * 0.6
    tab.close()


def test_a_lost_camera_and_a_lost_server_are_said(browser):
    camera = CameraServer(size=(240, 320))
    server = Page([camera.url])
    tab = browser.page(server.url)
    tab.until("window.mobilessd && mobilessd.tiles[0].frames > 3")
    words = "!document.querySelector('.veil').hidden && document.querySelector('.veil').innerText"
    camera.mode = "hang"
    assert "No new image" in tab.until(words, 20)
    camera.mode = "run"
    tab.until("document.querySelector('.veil').hidden", 20)
    server.close()
    tab.until(f"({words} || '').includes('server does not answer')")
    tab.close()
    camera.down()


def test_a_page_of_another_origin_cannot_read_the_camera(browser, server, tmp_path):
    (tmp_path / "evil.html").write_text("<title>another page</title>")
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(tmp_path)))
    threading.Thread(target=other.serve_forever, daemon=True).start()
    tab = browser.page(f"http://127.0.0.1:{other.server_port}/evil.html")
    tab.until("document.title == 'another page'")
    frame = f"{server.url}frame/front.jpg"
    assert tab.js(f"fetch('{frame}').then(() => 'read', () => 'refused')") == "refused"
    assert tab.js(f"fetch('{frame}', {{mode: 'no-cors'}}).then(() => 'read', () => 'refused')") == "refused"
    image = "(i => (i.onload = () => done('seen'), i.onerror = () => done('refused')))(new Image())"
    image = image.replace("(new Image())", f"(Object.assign(new Image(), {{src: '{frame}'}}))")
    assert tab.js(f"new Promise(done => {image})") == "refused"
    address = server.url.replace("http", "ws") + "ws/view/front"
    socket = f"(s => (s.onopen = () => done('open'), s.onerror = () => done('refused')))(new WebSocket('{address}'))"
    assert tab.js(f"new Promise(done => {socket})") == "refused"
    post = f"fetch('{server.url}detect', {{method: 'POST', body: 'x'}}).then(() => 'read', () => 'refused')"
    assert tab.js(post) == "refused"
    tab.close()
    other.shutdown()
    other.server_close()
