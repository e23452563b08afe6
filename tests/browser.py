"""A headless Chromium for tests, driven by Playwright: opens pages, runs JavaScript, moves mouse and fingers."""

import contextlib
import importlib.util
import shutil
import time


def find_chromium():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing():
    """Why there can be no browser here; nothing where there can."""
    if importlib.util.find_spec("playwright") is None:
        return "needs the package playwright"
    return "" if find_chromium() else "needs Chromium"


FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


class Browser:
    """One Chromium. `page()` opens a tab with an empty profile of its own."""

    def __init__(self):
        from playwright.sync_api import sync_playwright

        self.playwright = sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS, timeout=60_000)

    def page(self, url="about:blank", width=1280, height=800, dense=1, phone=False, scheme="dark"):
        context = self.chromium.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=dense,
            is_mobile=phone,
            has_touch=phone,
            color_scheme=scheme,
        )
        context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
        page = Page(context)
        page.go(url)
        return page

    def close(self):
        self.chromium.close()
        self.playwright.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Page:
    """A tab. tab: Playwright's own page, with its mouse and keyboard. requests: the URLs that it has asked for since the
    last `go`. problems: what it wrote to its console, and exceptions of its scripts."""

    def __init__(self, context):
        self.context, self.tab = context, context.new_page()
        self.devtools = context.new_cdp_session(self.tab)
        self.requests, self.problems = [], []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)

    def go(self, url):
        self.requests, self.problems = [], []
        self.tab.goto(url)

    def js(self, code):
        """The value of a JavaScript expression, awaited."""
        return self.tab.evaluate(f"async () => ({code})")

    def until(self, code, seconds=40):
        """Waits until a JavaScript expression is true; gives its value."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(Exception):
                if value := self.js(code):
                    return value
            assert time.monotonic() < end, f"not within {seconds} s: {code}; problems: {self.problems}"
            time.sleep(0.03)

    def at(self, x, y, tile=0):
        """Where on the screen a place of an image is, given in fractions of it."""
        box = self.js(f"(r => [r.x, r.y, r.width, r.height])(mobilessd.tiles[{tile}].canvas.getBoundingClientRect())")
        return box[0] + x * box[2], box[1] + y * box[3]

    def drag(self, start, end, steps=6):
        """The mouse from one place of the screen to another with its button down."""
        self.tab.mouse.move(*start)
        self.tab.mouse.down()
        self.tab.mouse.move(*end, steps=steps)
        self.tab.mouse.up()

    def swipe(self, start, end, steps=6):
        """A finger from one place of the screen to another."""
        for k in range(steps + 1):
            x, y = (a + (b - a) * k / steps for a, b in zip(start, end))
            kind = "touchMove" if k else "touchStart"
            self.devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        self.devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def screenshot(self, path):
        self.tab.screenshot(path=path)

    def close(self):
        self.context.close()
