"""Lines and zones drawn by mouse, finger and keys in a real browser, on a playing video; photos dropped and pasted."""

import shlex
import time

import cv2
import numpy as np
import pytest
from browser import Browser, missing
from live_help import Reds, needs_tracking
from PIL import Image
from test_live_page import IMAGE, Page

from detection.live.gate_file import GateFile
from detection.live.overlay import _inwards

if missing():
    pytest.skip(missing(), allow_module_level=True)
pytestmark = needs_tracking

SIZE = (240, 320)
COUNTS = "[...document.querySelectorAll('#gates li')].map(li => li.querySelector('b').textContent).join('; ')"
NAMES = "[...document.querySelectorAll('#gates span')].map(span => span.textContent).join('; ')"
READY = "window.mobilessd && mobilessd.tiles[0].frames > 3"


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two red things that go right, and one that goes left, again and again."""
    path = str(tmp_path_factory.mktemp("film") / "film.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 20, SIZE[::-1])
    for k in range(80):
        image = np.full((*SIZE, 3), 90, np.uint8)
        for y, speed, start in ((70, 4, 0), (190, 3, 40), (130, -4, 320)):
            x = start + speed * k
            cv2.rectangle(image, (x - 12, y - 40), (x + 12, y), (20, 20, 230), -1)
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture
def server(film, tmp_path):
    page = Page([f"front={film}"], Reds(), loop=True, watch=str(tmp_path / "watch.yaml"))
    yield page
    page.close()


@pytest.fixture
def tab(browser, server):
    tab = browser.page(server.url)
    tab.until(READY)
    yield tab
    assert tab.problems == []
    tab.close()


def gates(tab, tile=0):
    """{name: points} of what a tile shows."""
    listed = tab.js(f"mobilessd.editor.gates(mobilessd.tiles[{tile}]).map(gate => [gate.name, gate.points])")
    return {name: np.array(points) for name, points in listed}


def draw(tab, kind, start, end, tile=0):
    tab.tab.click(f"#add-{kind}")
    tab.drag(tab.at(*start, tile), tab.at(*end, tile))


def until_named(tab, name):
    """Waits until what was drawn is there and its name may be typed over, as a person does: a frame may show it earlier."""
    tab.until(f"{NAMES} == '{name}' && document.activeElement.matches('[data-bar=name]')")


def kept(tmp_path):
    return {spec.name: spec for spec in GateFile(tmp_path / "watch.yaml").read()}


@pytest.mark.parametrize("width", [1280, 390])
def test_a_line_and_a_zone_drawn_on_a_playing_video_count_and_stay(browser, film, tmp_path, width):
    phone = width == 390
    options = {"loop": True, "watch": str(tmp_path / "watch.yaml")}
    server = Page([f"front={film}"], Reds(), **options)
    tab = browser.page(server.url, width, 844, 2 if phone else 1, phone=phone)
    tab.until(READY)
    press, pull = (tab.tab.tap, tab.swipe) if phone else (tab.tab.click, tab.drag)
    press("#add-line")
    pull(tab.at(0.5, 0.05), tab.at(0.5, 0.95))
    tab.until("document.querySelectorAll('#gates li').length == 1")
    tab.tab.fill("[data-bar=name]", "door")
    press("[data-bar=close] >> visible=true")
    press("#add-zone")
    pull(tab.at(0.6, 0.1), tab.at(0.95, 0.9))
    tab.until(f"{NAMES} == 'door; zone 1'")
    tab.until(f"/[1-9]\\d* in.*[1-9]\\d* out.*[1-9]\\d* entered/.test({COUNTS})")
    assert tab.js("document.documentElement.scrollWidth") <= width
    assert tab.js("mobilessd.tiles[0].frames") > 10, "it has played on"
    tab.tab.reload()
    tab.until(f"{NAMES} == 'door; zone 1'")
    assert np.allclose(gates(tab)["door"], [[0.5, 0.05], [0.5, 0.95]], atol=0.02)
    assert np.allclose(gates(tab)["zone 1"], [[0.6, 0.1], [0.95, 0.1], [0.95, 0.9], [0.6, 0.9]], atol=0.02)
    tab.tab.goto("about:blank")  # or it would ask the server that is gone
    server.close()
    server = Page([f"front={film}"], Reds(), **options)
    tab.go(server.url)
    tab.until(f"{NAMES} == 'door; zone 1'")
    assert kept(tmp_path)["zone 1"].source == "front"
    assert tab.problems == []
    tab.close()
    server.close()


def test_a_zone_corner_by_corner(tab, tmp_path):
    tab.tab.click("#add-zone")
    hint = "document.querySelector('[data-bar=hint]').textContent"
    assert "Drag a box" in tab.js(hint)
    for place in ((0.1, 0.1), (0.5, 0.1), (0.9, 0.9), (0.5, 0.6)):
        tab.tab.mouse.click(*tab.at(*place))
    tab.tab.click("[data-bar=undo] >> visible=true")
    assert tab.js("mobilessd.editor.draft.points.length") == 3
    tab.tab.mouse.click(*tab.at(0.2, 0.8))
    assert "first one" in tab.js(hint)
    tab.tab.mouse.click(*tab.at(0.1, 0.1))
    deadline = time.monotonic() + 20
    while not (tmp_path / "watch.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.05)  # the page shows it before the server has kept it
    tab.until(f"{NAMES} == 'zone 1' && mobilessd.editor.gates(mobilessd.tiles[0]).some(gate => gate.name == 'zone 1')")
    assert np.allclose(gates(tab)["zone 1"], [[0.1, 0.1], [0.5, 0.1], [0.9, 0.9], [0.2, 0.8]], atol=0.01)
    assert np.allclose(kept(tmp_path)["zone 1"].points, gates(tab)["zone 1"])
    until_named(tab, "zone 1")
    tab.tab.keyboard.type("Füße")  # its name is chosen for being typed over
    tab.tab.keyboard.press("Enter")
    tab.until(f"{NAMES} == 'Füße'")
    assert not tab.js("mobilessd.editor.picked")


def test_escape_leaves_everything_as_it_was(tab, tmp_path):
    tab.tab.click("#add-zone")
    tab.tab.mouse.click(*tab.at(0.1, 0.1))
    tab.tab.mouse.click(*tab.at(0.5, 0.5))
    tab.tab.keyboard.press("Escape")
    assert tab.js("[mobilessd.editor.kind, mobilessd.editor.draft]") == [None, None]
    tab.tab.click("#add-line")
    tab.tab.focus("[data-bar=cancel] >> visible=true")
    tab.tab.keyboard.press("Enter")
    assert not tab.js("mobilessd.editor.kind")
    tab.js("new Promise(done => setTimeout(done, 300))")
    assert tab.js("getComputedStyle(document.querySelector('.tile figcaption')).display") != "none"
    assert kept(tmp_path) == {}


def test_moving_naming_swapping_removing_and_taking_back(tab, tmp_path):
    draw(tab, "line", (0.3, 0.2), (0.3, 0.8))
    until_named(tab, "line 1")
    tab.tab.keyboard.press("Escape")
    tab.drag(tab.at(0.3, 0.5), tab.at(0.5, 0.5))  # it is chosen and moved by one pull
    tab.until("Math.abs(mobilessd.tiles[0].gates[0].points[0][0] - 0.5) < 0.01")
    tab.drag(tab.at(0.5, 0.8), tab.at(0.6, 0.9))  # its end
    tab.until("Math.abs(mobilessd.tiles[0].gates[0].points[1][0] - 0.6) < 0.01")
    tab.until("mobilessd.tiles[0].gates[0].version == 3")
    assert np.allclose(kept(tmp_path)["line 1"].points, [[0.5, 0.2], [0.6, 0.9]], atol=0.01)
    tab.tab.click("[data-bar=swap] >> visible=true")
    tab.until("mobilessd.tiles[0].gates[0].version == 4")
    assert np.allclose(kept(tmp_path)["line 1"].points, [[0.6, 0.9], [0.5, 0.2]], atol=0.01)
    tab.tab.fill("[data-bar=name]", "<b>door</b>")
    tab.tab.mouse.click(*tab.at(0.1, 0.1))  # elsewhere: what was typed is sent, and refused
    tab.until("document.getElementById('notice').textContent.includes('plain text')")
    assert tab.js(NAMES) == "line 1"
    tab.problems.clear()  # the browser notes every answer 400
    tab.tab.click("#gates button")
    tab.tab.keyboard.press("Delete")
    tab.until("document.querySelectorAll('#gates li').length == 0")
    assert kept(tmp_path) == {}
    tab.tab.click("#notice button")
    tab.until(f"{NAMES} == 'line 1'")
    assert list(kept(tmp_path)) == ["line 1"]


def test_with_keys_alone(tab, tmp_path):
    tab.tab.focus("#add-zone")
    tab.tab.keyboard.press("Enter")
    assert tab.js("document.activeElement.className").startswith("tile")
    tab.tab.keyboard.press("Enter")
    until_named(tab, "zone 1")
    tab.tab.keyboard.type("desk")
    tab.tab.keyboard.press("Enter")
    tab.tab.focus("#gates button")
    tab.tab.keyboard.press("Enter")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight"):
        tab.tab.keyboard.press(key)
    tab.until("mobilessd.tiles[0].gates[0].version == 6")
    expected = [[0.31, 0.31], [0.73, 0.31], [0.73, 0.71], [0.31, 0.71]]
    assert np.allclose(kept(tmp_path)["desk"].points, expected, atol=0.001)
    tab.tab.keyboard.press("Delete")
    tab.until("document.querySelectorAll('#gates li').length == 0")


def test_two_browsers_see_each_others_changes(browser, server, tab):
    other = browser.page(server.url, scheme="light")
    other.until(READY)
    draw(tab, "zone", (0.1, 0.1), (0.4, 0.4))
    other.until(f"{NAMES} == 'zone 1'")
    until_named(tab, "zone 1")
    tab.tab.keyboard.press("Escape")
    # Both take it in hand; who lets go first is right.
    for one in (tab, other):
        one.tab.mouse.move(*one.at(0.25, 0.4))
        one.tab.mouse.down()
        one.tab.mouse.move(*one.at(0.35, 0.5), steps=3)
    other.tab.mouse.up()
    tab.until("mobilessd.tiles[0].gates[0].version == 2")
    tab.tab.mouse.up()
    tab.until("document.getElementById('notice').textContent.includes('omebody else has changed')")
    tab.problems.clear()
    tab.tab.keyboard.press("Escape")
    other.tab.keyboard.press("Delete")
    tab.until("document.querySelectorAll('#gates li').length == 0")
    other.close()


def test_several_cameras_have_their_own_zones_and_events_name_them(browser, film, tmp_path):
    server = Page([f"front={film}", f"yard={film}"], Reds(), loop=True, watch=str(tmp_path / "watch.yaml"))
    tab = browser.page(server.url)
    tab.until("window.mobilessd && mobilessd.tiles.every(tile => tile.frames > 3)")
    draw(tab, "zone", (0.1, 0.1), (0.9, 0.9), tile=1)
    tab.until(f"{NAMES} == 'zone 1 · yard'")
    assert len(gates(tab, 0)) == 0 and kept(tmp_path)["zone 1"].source == "yard"
    assert tab.js("mobilessd.tiles.filter(tile => !tile.element.classList.contains('away')).length") == 2
    until_named(tab, "zone 1 · yard")
    tab.until("/entered zone 1 yard/.test(document.getElementById('events').textContent)")
    assert not tab.js("document.getElementById('events').textContent.includes('front')")
    tab.tab.keyboard.press("Escape")
    tab.tab.mouse.click(*tab.at(0.5, 0.5, 0))
    assert tab.js("mobilessd.tiles[1].element.classList.contains('away')"), "a click still shows one alone"
    tab.close()
    server.close()


def test_also_on_a_held_image_and_on_a_video_that_has_ended(browser, film, tab):
    tab.tab.click("[data-do=pause]")
    draw(tab, "zone", (0.1, 0.1), (0.9, 0.9))
    tab.until("mobilessd.tiles[0].gates.length == 1 && mobilessd.tiles[0].gates[0].counts")
    tab.js(
        """(tile => {
          const redraw = tile.redraw;
          window.drawn = 0;
          tile.redraw = () => (window.drawn++, redraw.call(tile));
        })(mobilessd.tiles[0])"""
    )
    held = tab.js("mobilessd.tiles[0].packet.n")
    tab.until("window.drawn > 20")  # its counts go on
    assert tab.js("mobilessd.tiles[0].packet.n") == held
    server = Page([f"front={film}"], Reds(), speed="max")
    ended = browser.page(server.url)
    ended.until("window.mobilessd && mobilessd.tiles[0].image && mobilessd.tiles[0].status.state == 'ended'")
    draw(ended, "line", (0.1, 0.1), (0.9, 0.9))
    ended.until("mobilessd.tiles[0].gates.length == 1 && mobilessd.tiles[0].gates[0].counts == '0 in, 0 out'")
    ended.close()
    server.close()


def test_counts_stay_where_the_frame_comes_before_the_answer(browser, film):
    """Of a video that has ended no later frame would show them again."""
    server = Page([f"front={film}"], Reds(), speed="max")
    tab = browser.page(server.url)
    tab.until("window.mobilessd && mobilessd.tiles[0].image && mobilessd.tiles[0].status.state == 'ended'")

    def late(route):
        answer = route.fetch()
        tab.until("mobilessd.tiles[0].gates.length == 1")
        route.fulfill(response=answer)

    tab.tab.route("**/api/watch", late)
    draw(tab, "line", (0.1, 0.1), (0.9, 0.9))
    tab.until("mobilessd.editor.picked && !mobilessd.editor.draft")
    assert tab.js("mobilessd.tiles[0].gates.map(gate => gate.counts)") == ["0 in, 0 out"]
    tab.close()
    server.close()


def test_copied_as_options(tab):
    draw(tab, "line", (0.5, 0), (0.5, 1))
    until_named(tab, "line 1")
    tab.tab.keyboard.type("Ann's door")
    tab.tab.keyboard.press("Enter")
    tab.until("mobilessd.tiles[0].gates[0].name != 'line 1'")
    tab.tab.click("#copy")
    tab.until("document.getElementById('notice').textContent.includes('Copied')")
    words = shlex.split(tab.js("navigator.clipboard.readText()"))
    assert words[0] == "--line" and words[1].startswith("front/Ann's door=0.")


def test_the_arrow_shows_where_in_is(tab):
    for line in ([[0.5, 0], [0.5, 1]], [[0.9, 0.4], [0.1, 0.5]]):
        shown = tab.js(f"import('/static/gates.js').then(gates => gates.inwards({line}))")
        assert np.allclose(shown, _inwards(np.array(line)))


def test_labels_stay_inside_the_image(tab):
    outside = tab.js(
        """import('/static/gates.js').then(({ labelSpot }) => {
          let worst = 0;
          for (let i = 0; i < 2000; i++) {
            const [width, height] = [200 + Math.random() * 800, 120 + Math.random() * 600];
            const count = i % 2 ? 2 : 3 + Math.floor(Math.random() * 5);
            const points = Array.from({ length: count }, () => [Math.random() * width, Math.random() * height]);
            const text = Math.random() * 1.5 * width;
            const [x, y, w, h] = labelSpot(i % 2 ? 'line' : 'zone', points, text, [], width, height);
            worst = Math.max(worst, -x, -y, x + w - width, y + h - height);
          }
          return worst;
        })"""
    )
    assert outside <= 0


def test_everything_has_a_name_for_screen_readers(tab):
    draw(tab, "line", (0.5, 0), (0.5, 1))
    tab.until(f"{NAMES} == 'line 1'")
    nameless = tab.js(
        """[...document.querySelectorAll('button, input, canvas[role], figure')]
          .filter(one => one.offsetParent && !one.textContent.trim() && !one.getAttribute('aria-label') && !one.labels?.length)
          .map(one => one.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    assert tab.js("document.querySelector('#gates .remove').getAttribute('aria-label')") == "Remove line 1"


def test_without_a_tracker_the_button_says_what_is_missing(browser, server, monkeypatch):
    monkeypatch.setattr("detection.errors.installed", lambda module: module != "scipy")
    tab = browser.page(server.url)
    tab.until(READY)
    tab.tab.click("#add-zone")
    tab.until("document.getElementById('notice').textContent.includes('mobilessd[track]')")
    assert not tab.js("mobilessd.editor.kind")
    tab.close()


# ---------------------------------------------------------------- photos


@pytest.fixture
def photo(tmp_path):
    """A red square at the right of a grey image, as JPEG of 3000 x 1500."""
    image = np.full((1500, 3000, 3), 90, np.uint8)
    cv2.rectangle(image, (2000, 500), (2400, 900), (20, 20, 230), -1)
    cv2.imwrite(str(tmp_path / "photo.jpg"), image)
    return tmp_path / "photo.jpg"


DROP = """(() => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(%s)], '%s'));
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.getElementById('stage').dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
})()"""


def test_a_dropped_photo_is_detected(tab):
    tab.js(DROP % (list(IMAGE), "nothing.jpg"))
    tab.until("mobilessd.tiles.length == 2 && mobilessd.tiles[1].frames == 1")
    assert tab.js("[mobilessd.tiles[1].name, mobilessd.tiles[1].packet.size]") == ["nothing.jpg", [60, 80]]
    assert tab.js("document.getElementById('drop').hidden")
    tab.js(DROP % ([1, 2, 3], "text.txt"))
    tab.until("document.getElementById('notice').textContent.startsWith('text.txt: is no image')")
    assert tab.js("mobilessd.tiles.length") == 2
    tab.problems.clear()


def test_a_chosen_photo_shows_its_boxes_and_goes_again(tab, photo):
    tab.tab.set_input_files("#photo-file", str(photo))
    tab.until("mobilessd.tiles.length == 2 && mobilessd.tiles[1].shown.length == 1")
    row, size = tab.js("[mobilessd.tiles[1].shown[0], mobilessd.tiles[1].packet.size]")
    assert row[:2] == [0, 0.9] and np.allclose(row[2:6], [2000, 500, 2400, 900], atol=8) and size == [1500, 3000]
    assert tab.js("mobilessd.tiles[1].image.width") == 2560, "no larger than a screen shows"
    tab.tab.click(".tile:last-child [data-do=close]")
    assert tab.js("mobilessd.tiles.length") == 1


def test_a_photo_that_its_exif_turns_is_upright_with_its_boxes(tab, tmp_path):
    image = Image.new("RGB", (300, 200), (90, 90, 90))
    image.paste((230, 20, 20), (200, 20, 280, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    tab.tab.set_input_files("#photo-file", str(tmp_path / "turned.jpg"))
    tab.until("mobilessd.tiles.length == 2 && mobilessd.tiles[1].shown.length == 1")
    assert tab.js("[mobilessd.tiles[1].image.width, mobilessd.tiles[1].image.height]") == [200, 300]
    assert np.allclose(tab.js("mobilessd.tiles[1].shown[0]")[2:6], [100, 200, 180, 280], atol=4)
    tab.tab.click(".tile:last-child [data-do=close]")


def test_a_pasted_photo_is_detected_also_where_there_is_no_camera(browser):
    server = Page([], Reds())
    tab = browser.page(server.url)
    tab.until("window.mobilessd && document.querySelector('#stage p')")
    assert not tab.tab.is_visible("#events-card")
    tab.js(
        """(async () => {
          const canvas = Object.assign(document.createElement('canvas'), { width: 200, height: 100 });
          const context = canvas.getContext('2d');
          context.fillStyle = '#f00';
          context.fillRect(20, 20, 60, 60);
          const blob = await new Promise(done => canvas.toBlob(done));
          await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]);
        })()"""
    )
    tab.tab.keyboard.press("Control+v")
    tab.until("mobilessd.tiles.length == 1 && mobilessd.tiles[0].shown.length == 1")
    assert np.allclose(tab.js("mobilessd.tiles[0].shown[0]")[2:6], [20, 20, 80, 80], atol=2)
    assert tab.problems == []
    tab.close()
    server.close()
