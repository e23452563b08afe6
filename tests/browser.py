"""A headless Chromium for tests, over its DevTools protocol: opens pages, runs JavaScript, looks at requests."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-port=0",
]


def find_chromium():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One Chromium with its own empty profile. `page()` opens a tab."""

    def __init__(self, *more_flags):
        self.profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        command = [find_chromium(), *FLAGS, *more_flags, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = Path(self.profile.name) / "DevToolsActivePort"
        until = time.monotonic() + 40
        while not (told.exists() and len(told.read_text().split()) == 2):
            assert time.monotonic() < until and self.process.poll() is None, "Chromium did not start"
            time.sleep(0.05)
        self.port = int(told.read_text().split()[0])
        self.pages = []

    def page(self, url="about:blank", width=1280, height=800, dense=1, phone=False):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        target = json.load(urllib.request.urlopen(request, timeout=10))
        page = Page(target["webSocketDebuggerUrl"])
        self.pages.append(page)
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=dense, mobile=phone
        )
        if phone:
            page.call("Emulation.setTouchEmulationEnabled", enabled=True)
        page.go(url)
        return page

    def close(self):
        for page in self.pages:
            page.close()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.profile.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Page:
    """A tab. requests: the URLs that it has asked for since the last `go`. problems: what it wrote to its console."""

    def __init__(self, url):
        from websockets.sync.client import connect

        self.socket = connect(
            url, max_size=None, compression=None, open_timeout=20, close_timeout=1, ping_interval=None
        )
        self.numbers = itertools.count(1)
        self.requests, self.problems = [], []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=30))
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message)

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.webSocketFrameSent":
            self.requests.append("websocket: " + params["response"]["payloadData"][:20])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def go(self, url):
        self.requests, self.problems = [], []
        self.call("Page.navigate", url=url)

    def js(self, code):
        """The value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]["exception"].get("description")
        return result["result"].get("value")

    def until(self, code, seconds=10):
        """Waits until a JavaScript expression is true; gives its value."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):
                if value := self.js(code):
                    return value
            assert time.monotonic() < end, f"not within {seconds} s: {code}; problems: {self.problems}"
            time.sleep(0.03)

    def screenshot(self, path):
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        with contextlib.suppress(Exception):
            self.socket.close()
