"""The local page in a real browser: Debian's chromium, driven by Playwright, with a video of known pulse as its camera.

Skipped where one of them is absent: apt-get install chromium; pip install playwright. No browser is downloaded.
"""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, render
from autohr.live.session import LiveFrames, LiveState
from autohr.methods import load_method
from autohr.types import Frame
from autohr.video.encode import write_video
from browsers import CHROMIUM, chromium_with_camera

pytest.importorskip("fastapi", reason="the page needs pip install 'autohr[serve]'")
pytest.importorskip("playwright", reason="driving a browser needs pip install playwright")


from autohr.service.app import Service
from autohr.service.config import ServiceConfig
from autohr.service.server import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]

HR_BPM = 72
# A whole number of beats and nothing that drifts: the camera plays this again and again without a jump of the pulse.
SCENE = SceneConfig(
    seed=5,
    duration_s=10,
    width=320,
    height=240,
    hr_bpm=HR_BPM,
    hrv=0.0,
    pulse_depth=0.025,
    light_drift=0.0,
    head=HeadMotion(sway=0.05, turn_deg=0.5, expression=0.0),
)
CONFIG = ServiceConfig(method="pos", max_upload_bytes=20_000_000)
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


# A browser on a busy machine plays its fake camera too slowly (28 to 29.5 of 30 pictures a second were seen), and the
# pulse in it with it. So the page is asked how fast the pictures came.
COUNT_PICTURES = """() => {
  const video = document.getElementById("preview");
  const seen = (window.seen = []);
  const look = (now, about) => {
    seen.push([about.captureTime ?? now, about.presentedFrames]);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
}"""
PICTURES_PER_S = "1000 * (seen.at(-1)[1] - seen[0][1]) / (seen.at(-1)[0] - seen[0][0])"


class Watch:
    """Recorder of what a page must never do: report an error, or ask another host."""

    def __init__(self, page: Any, *ports: int) -> None:
        self.wrong: list[str] = []
        self._hosts = {f"127.0.0.1:{port}" for port in ports}
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self._check(request.url))
        page.on("websocket", lambda socket: self._check(socket.url))

    def _hear(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.wrong.append(said.text)

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc not in self._hosts:
            self.wrong.append(f"a request to {url}")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [frame for frame, _ in render(SCENE)]


@pytest.fixture(scope="module")
def browser(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    camera = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    with chromium_with_camera(frames, camera) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[int, Service]]:
    with running(CONFIG, load_method("pos")) as server:
        yield server


@pytest.fixture
def page(browser: Any, served: tuple[int, Service]) -> Iterator[Any]:
    """The page, ready; whatever a test does with it, no error is said and no other host is asked."""
    port, _ = served
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    page = context.new_page()
    watch = Watch(page, port)
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("body[data-ready]")
    yield page
    context.close()
    assert watch.wrong == []


def test_the_camera_shows_the_rate(page: Any, served: tuple[int, Service]) -> None:
    _, app = served
    page.click("#start")
    page.locator("#stage.on").wait_for()
    page.evaluate(COUNT_PICTURES)
    page.locator("#verdict", has_text=re.compile("^Reliable$")).wait_for(timeout=90_000)
    shown_bpm = float(page.inner_text("#rate"))
    played_bpm = HR_BPM * page.evaluate(PICTURES_PER_S) / SCENE.fps
    assert played_bpm <= HR_BPM + 1 and shown_bpm == pytest.approx(played_bpm, abs=3)
    assert "beats per minute" in page.get_attribute("#wave", "aria-label")
    box, stage = (page.locator(name).bounding_box() for name in ("#face-box", "#stage"))
    # The drawn face is in the middle, with two fifths of the height.
    assert abs(box["x"] + box["width"] / 2 - stage["x"] - stage["width"] / 2) < 0.15 * stage["width"]
    assert 0.2 < box["height"] / stage["height"] < 0.7
    page.click("#stop")
    page.wait_for_selector("#camera-result .result", timeout=30_000)
    assert page.locator("#camera-result").bounding_box()["y"] < 250, "the result stands on top"
    with page.expect_download() as download:
        page.click("text=Measurement (JSON)")
    measured = json.loads(Path(download.value.path()).read_text())
    assert measured["faces"][0]["hr_bpm"] == pytest.approx(shown_bpm, abs=5)
    report = page.frame_locator("iframe")
    assert "bpm" in report.locator(".number").inner_text()
    assert len(app.results) == 1
    page.get_by_role("button", name="Forget", exact=True).click()
    page.wait_for_selector("#camera-result .result", state="detached")
    end_s = time.monotonic() + 10
    while len(app.results) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert len(app.results) == 0 and app.cameras.n_sessions == 0


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize(
    ("name", "words"),
    [("NotAllowedError", "not allowed"), ("NotFoundError", "no camera"), ("NotReadableError", "another program")],
)
def test_a_camera_that_fails_is_told_at_the_button(page: Any, name: str, words: str, size: dict[str, int]) -> None:
    page.set_viewport_size(size)
    page.evaluate(
        "name => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', name); }; }", name
    )
    page.click("#start")
    page.wait_for_selector("#camera-problem:not([hidden])")
    assert words in page.inner_text("#camera-problem")
    button, told = (page.locator(one).bounding_box() for one in ("#start", "#camera-problem"))
    assert 0 < told["y"] - button["y"] < 150 and told["y"] + told["height"] < size["height"]


def test_a_reliable_rate_that_is_late_or_of_few_pictures_says_so(page: Any) -> None:
    told = LiveState(hr_bpm=72.0, confidence=0.9, reliable=True, face_id=0)
    links: list[Any] = []
    page.route_web_socket(re.compile("/api/camera"), lambda link: links.append(link))
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.click("#start")
    page.locator("#stage.on").wait_for()

    def show(state: LiveState) -> str:
        links[0].send(json.dumps({"type": "state", **state.as_dict()}))
        page.locator("#delay", has_text=f"{state.delay_s:.2f} s").wait_for()
        return str(page.inner_text("#verdict") + page.inner_text("#verdict-why"))

    assert show(told) == "Reliable: the pulse is clear."
    assert show(replace(told, delay_s=6.2)) == "Reliable, but it comes 6 s late."
    for k in range(20):
        counts = LiveFrames(offered=10 * k, measured=4 * k, dropped=6 * k)
        words = show(replace(told, delay_s=k / 100, frames=counts))
    assert words == "Reliable, but half of the pictures or more are left out."
    assert "too slow" in page.inner_text("#advice")


SUMMARY = {"hr_bpm": 72.3, "confidence": 0.93, "reliable": True, "why": None, "duration_s": 30.0, "method": "pos"}
UNSURE = {**SUMMARY, "confidence": 0.2, "reliable": False, "why": "the head moved"}


@pytest.mark.parametrize(
    ("summary", "title", "words"),
    [(SUMMARY, "72 beats per minute", "93 %"), (UNSURE, "No reliable rate", "The head moved. Sit still")],
)
def test_a_scan_counts_down_stops_and_gives_one_result(
    page: Any, summary: dict[str, Any], title: str, words: str
) -> None:
    links: list[Any] = []
    sent: list[Any] = []

    def take(link: Any) -> None:
        link.on_message(lambda message: sent.append(message))
        links.append(link)

    page.route_web_socket(re.compile("/api/camera"), take)
    page.route("**/api/results/**", lambda route: route.fulfill(status=204))
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.click("#scan")
    page.locator("#stage.on").wait_for()

    def show(since_s: float, face_id: int | None) -> str:
        links[-1].send(json.dumps({"type": "state", **LiveState(since_s=since_s, face_id=face_id).as_dict()}))
        page.locator("#since", has_text=f"{since_s:.0f} s").wait_for()
        return " ".join(page.inner_text("#countdown").split())

    assert show(4, None) == "Look into the camera"
    assert show(5, 0) == "Hold still 30 s"
    assert show(34.2, 0) == "Hold still 1 s" and sent == []
    links[-1].send(json.dumps({"type": "state", **LiveState(since_s=35.1, face_id=0).as_dict()}))
    page.locator("#countdown").wait_for(state="hidden")
    assert [json.loads(one) for one in sent] == [{"type": "stop"}]
    told = {"type": "result", "id": "x", "files": ["readings.csv"], "summary": {**summary, "others": []}, "why": None}
    links[-1].send(json.dumps(told))
    page.wait_for_selector("#camera-result .result")
    assert page.inner_text("#since") == page.inner_text("#readings") == "\u2013", "figures are of the camera that is on"
    assert title in page.inner_text("#camera-result h2") and words in page.inner_text("#camera-result .says")
    assert not page.is_visible("text=Readings (CSV)")
    page.click("text=Details and downloads")
    assert page.is_visible("text=Readings (CSV)")
    page.get_by_role("button", name="Measure again").click()
    page.locator("#stage.on").wait_for()
    assert "Hold still" in show(1, 0) and page.is_hidden("#stop")


EMBEDDING = """<!DOCTYPE html><meta charset="utf-8"><title>Another page</title>
<meta http-equiv="content-security-policy" content="style-src 'none'">
<link rel="icon" href="data:,">
<script type="module" src="http://127.0.0.1:{port}/autohr-meter.js{query}"></script>
<autohr-meter seconds="16"></autohr-meter>
<script>
  window.told = [];
  const meter = document.querySelector("autohr-meter");
  for (const name of ["reading", "result", "error"]) meter.addEventListener(name, e => told.push([name, e.detail]));
</script>"""


@pytest.fixture(scope="module")
def other_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of another server, and the page that it gives."""
    folder = tmp_path_factory.mktemp("other")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], folder / "index.html"
        server.shutdown()


@pytest.mark.parametrize("token", [None, "a token of enough letters"], ids=["open", "token"])
def test_another_page_measures_with_the_element(browser: Any, other_page: tuple[int, Path], token: str | None) -> None:
    port, path = other_page
    config = replace(CONFIG, allowed_origins=(f"http://127.0.0.1:{port}",), token=token)
    with running(config, load_method("pos")) as (service_port, app):
        path.write_text(EMBEDDING.format(port=service_port, query="" if token is None else f"?token={quote(token)}"))
        page = browser.new_page(viewport=PHONE)
        watch = Watch(page, port, service_port)
        page.goto(f"http://127.0.0.1:{port}/")
        page.click("autohr-meter button")
        page.locator("autohr-meter .on .note", has_text=re.compile(r"^Hold still: \d+ s$")).wait_for(timeout=30_000)
        assert page.locator("autohr-meter video").evaluate("video => video.videoWidth") == SCENE.width
        page.wait_for_function("told.some(([name]) => name === 'result')", timeout=90_000)
        told = page.evaluate("told")
        readings, result = [one for name, one in told if name == "reading"], told[-1][1]
        assert [name for name, _ in told] == ["reading"] * len(readings) + ["result"]
        assert len({one["end_s"] for one in readings}) == len(readings) >= 3 and readings[-1]["reliable"]
        assert result["summary"]["hr_bpm"] == pytest.approx(HR_BPM, abs=4) and result["summary"]["reliable"]
        assert page.inner_text("autohr-meter .rate") == f"{result['summary']['hr_bpm']:.0f}"
        assert "Reliable" in page.inner_text("autohr-meter .says")
        assert len(app.results) == 1 and app.cameras.n_sessions == 0
        page.evaluate("meter.remove()")
        end_s = time.monotonic() + 10
        while len(app.results) and time.monotonic() < end_s:
            time.sleep(0.05)
        assert len(app.results) == 0
        assert watch.wrong == []
        # The same page under a name that is not allowed gets nothing.
        page.goto(f"http://localhost:{port}/")
        assert page.evaluate("customElements.get('autohr-meter') === undefined")
        page.close()


def test_the_element_says_what_failed(browser: Any, other_page: tuple[int, Path], served: tuple[int, Service]) -> None:
    port, path = other_page
    with running(replace(CONFIG, allowed_origins=(f"http://127.0.0.1:{port}",)), load_method("pos")) as (ours, _):
        path.write_text(EMBEDDING.format(port=ours, query=""))
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        # A server that does not allow this page.
        page.evaluate(f"meter.setAttribute('service', 'http://127.0.0.1:{served[0]}'); meter.start()")
        page.wait_for_function("told.length === 1", timeout=30_000)
        ((name, detail),) = page.evaluate("told")
        assert name == "error" and f"--allow-origin http://127.0.0.1:{port}" in detail["message"]
        assert detail["message"] in page.inner_text("autohr-meter .says")
        page.evaluate(
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError') };"
            "meter.start()"
        )
        page.wait_for_function("told.length === 2", timeout=30_000)
        assert "no camera" in page.evaluate("told[1][1].message")
        page.close()


def test_files_good_bad_and_too_large(
    page: Any, served: tuple[int, Service], frames: list[Frame], tmp_path: Path
) -> None:
    _, app = served
    good, bad, large = tmp_path / "good.mp4", tmp_path / "bad.mp4", tmp_path / "large.mp4"
    write_video(good, frames, fps=SCENE.fps, crf=6)
    bad.write_bytes(b"this is no video " * 1000)
    with large.open("wb") as file:
        file.truncate(CONFIG.max_upload_bytes + 1)
    page.click("#tab-upload")
    for path, words in ((bad, "bad.mp4"), (large, "large.mp4 is too large: at most 20 MB")):
        page.set_input_files("#file", path)
        page.wait_for_selector("#upload-problem:not([hidden])", timeout=30_000)
        assert words in page.inner_text("#upload-problem")
        assert page.locator("#upload-result .result").count() == 0
    page.set_input_files("#file", good)
    page.wait_for_selector("#upload-result .result", timeout=90_000)
    assert page.is_hidden("#upload-problem")
    shown = page.frame_locator("iframe").locator(".number").inner_text()
    assert float(shown.split()[0]) == pytest.approx(HR_BPM, abs=3)
    assert app.uploads.n_files == 0


def test_a_keyboard_and_a_phone_are_enough(page: Any) -> None:
    page.focus("#tab-camera")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#panel-upload") and page.is_hidden("#panel-camera")
    assert page.evaluate("document.activeElement.id") == "tab-upload"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Home")
    assert page.is_visible("#panel-camera")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "scan"
    page.set_viewport_size(PHONE)
    for tab in ("#tab-camera", "#tab-upload"):
        page.click(tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    names = page.evaluate(
        "[...document.querySelectorAll('button, a, input, select, video, canvas, progress')]"
        ".filter(e => !(e.innerText || e.labels?.length || e.getAttribute('aria-label')"
        " || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)"
    )
    assert names == [], "everything that can be used has a name for a screen reader"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_both_schemes(page: Any, scheme: str) -> None:
    """WCAG 2.1, 1.4.3: contrast of 4.5 between words and what lies behind them."""
    page.emulate_media(color_scheme=scheme)
    colours = page.evaluate(
        "['--page', '--card', '--ink', '--muted', '--link', '--bad', '--good', '--none', '--bad-soft', '--good-soft',"
        " '--none-soft'].map(name => [name, getComputedStyle(document.body).getPropertyValue(name).trim()])"
    )
    value = {name: np.array([int(code[k : k + 2], 16) / 255 for k in (1, 3, 5)]) for name, code in colours}

    def light(name: str) -> float:
        linear = np.where(value[name] <= 0.04045, value[name] / 12.92, ((value[name] + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    pairs = [(ink, paper) for ink in ("--ink", "--muted", "--link") for paper in ("--page", "--card")]
    pairs += [(tone, f"{tone}-soft") for tone in ("--bad", "--good", "--none")]
    for one, other in pairs:
        low, high = sorted((light(one), light(other)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (one, other)
