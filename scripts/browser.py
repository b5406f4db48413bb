"""A headless Chromium, controlled over a pipe (Chrome DevTools Protocol) with the standard library.

    OFB_BROWSER  program to use; default: an installed Chromium or Chrome, or one from apt-get
"""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
TIMEOUT = 60  # seconds


class Missing(Exception):
    """No browser is installed, and none can be installed."""


def find():
    """Returns the program of a browser, and installs one if there is none."""
    own = os.environ.get("OFB_BROWSER")
    if own:
        if not shutil.which(own):
            raise SystemExit("OFB_BROWSER: got %s, expected a program on the path" % own)
        return own
    for attempt in range(2):
        for name in NAMES:
            path = shutil.which(name)
            if path:
                return path
        if attempt == 0:
            install()
    raise Missing("chromium: not on the path after apt-get install")


def install():
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Missing("chromium: not found; install it, or set OFB_BROWSER to a Chromium or Chrome")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "chromium"]):
        made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True)
        if made.returncode:
            raise Missing("%s failed: %s" % (" ".join(command), made.stdout.strip().splitlines()[-1:]))


class Browser:
    """A running browser with one tab."""

    def __init__(self, program):
        self.folder = tempfile.mkdtemp(prefix="ofb-browser-")
        self.number, self.unread, self.events = 0, b"", []
        theirs_in, self.to = os.pipe()
        self.from_, theirs_out = os.pipe()
        # The browser expects the pipe at its descriptors 3 and 4.
        command = [
            "sh", "-c", 'exec 3<&%d 4>&%d; exec "$@"' % (theirs_in, theirs_out), "browser", program,
            "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions",
            "--remote-debugging-pipe", "--user-data-dir=" + self.folder, "about:blank",
        ]
        with open(os.path.join(self.folder, "stderr"), "wb") as log:
            self.process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out),
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            self.session = None
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(domain + ".enable")
        except (EOFError, BrokenPipeError):
            with open(os.path.join(self.folder, "stderr"), errors="replace") as log:
                said = log.read().strip().splitlines()[-3:]
            self.close()
            raise Missing("%s does not start: %s" % (program, " / ".join(said)))
        except BaseException:
            self.close()
            raise

    def close(self):
        for end in (self.to, self.from_):
            os.close(end)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def receive(self, until):
        """Returns the next message, or None after the time `until`."""
        while b"\0" not in self.unread:
            if not select.select([self.from_], [], [], max(0, until - time.monotonic()))[0]:
                return None
            data = os.read(self.from_, 1 << 20)
            if not data:
                raise EOFError("the browser has ended")
            self.unread += data
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        until = time.monotonic() + TIMEOUT
        while True:
            answer = self.receive(until)
            if answer is None:
                raise TimeoutError(method)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError("%s: %s" % (method, answer["error"]["message"]))
                return answer["result"]
            if "method" in answer:
                self.events.append((answer["method"], answer.get("params", {})))

    def evaluate(self, expression):
        """Returns the value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:2000])
        return result["result"].get("value")

    def open(self, url, width, height, dark):
        """Loads a page at a window size, waits until it is drawn, and keeps the events since."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events = []
        self.call("Page.navigate", url=url)
        until = time.monotonic() + TIMEOUT
        while not any(name == "Page.loadEventFired" for name, _ in self.events):
            message = self.receive(until)
            if message is None:
                raise TimeoutError("loading of " + url)
            if "method" in message:
                self.events.append((message["method"], message.get("params", {})))
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def screenshot(self):
        """Returns the whole page as PNG in base64."""
        return self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                         optimizeForSpeed=True, clip=dict(self.page_box(), scale=1))["data"]

    def page_box(self):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"]}
