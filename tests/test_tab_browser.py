"""The page that measures in the tab, in Debian's chromium: the same answer as Python's on the same frames.

Skipped where a part is absent: apt-get install chromium; pip install playwright; npm install (in web/).
"""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import autohr
from autohr.errors import AutoHRError
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import render, truth
from autohr.tab.folder import RUNTIME, RUNTIME_VERSION, find_runtime, write_page
from autohr.types import Float, Frame
from browsers import CHROMIUM, chromium_with_camera
from test_golden import BASE, CLIPS, Clip, scene

pytest.importorskip("playwright", reason="driving a browser needs pip install playwright")


NPM_PACKAGE = Path(__file__).parents[1] / "web" / "node_modules" / RUNTIME
needs_runtime = pytest.mark.skipif(not NPM_PACKAGE.exists(), reason=f"there is no {RUNTIME}: npm install in web/")
in_browser = [
    pytest.mark.slow,
    needs_runtime,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]
FACE = Path(autohr.__file__).parent / "demo" / "face.mp4"
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1366, "height": 900}

PAGE_CLIPS: Mapping[str, Clip] = {
    **CLIPS,
    "weak": Clip((), scene(seed=21, hr_bpm=88, pulse_depth=0.008, noise_sd=4.0)),
    "restless": Clip(
        (),
        scene(
            seed=22,
            fps=30,
            width=320,
            height=240,
            face_px=130,
            hr_bpm=58,
            pulse_depth=0.015,
            head=HeadMotion(sway=2.0, talk=1.5, turn_deg=15),
        ),
    ),
}
"""The golden clips, all by the shipped detector and AutoHR here, and two that are harder."""

FEED = """async (name) => {
  const about = await (await fetch(`/clips/${name}.json`)).json();
  const raw = await (await fetch(`/clips/${name}.rgb`)).arrayBuffer();
  const { width, height, t_s } = about, size = width * height * 3;
  const worker = new Worker("/autohr.js", { type: "module" });
  let k = 0;
  const feed = () => {
    if (k > t_s.length) return;
    if (k === t_s.length) {
      worker.postMessage({ type: "finish" });
    } else {
      const pixels = raw.slice(k * size, (k + 1) * size);
      worker.postMessage({ type: "frame", pixels, channels: 3, width, height, tS: t_s[k], late: false }, [pixels]);
    }
    k++;
  };
  const answer = await new Promise((done) => {
    worker.onerror = (error) => done({ type: "failed", why: error.message });
    worker.onmessage = ({ data }) => {
      if (data.type === "ready") {
        worker.postMessage({ type: "begin", name: "frames" });
        feed();
      } else if (data.type === "taken") feed();
      else if (["result", "refused", "failed"].includes(data.type)) done(data);
    };
  });
  worker.terminate();
  return JSON.stringify(answer, (key, value) => (ArrayBuffer.isView(value) ? undefined : value));
}"""


@dataclass(frozen=True)
class Site:
    """The page's folder, the folder of the clips, and the address at which both are handed out."""

    folder: Path
    clips: Path
    url: str


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A plain file server; what is under /clips/ lies beside the page."""

    clips = ""

    def translate_path(self, path: str) -> str:
        if path.startswith("/clips/"):
            return str(Path(self.clips) / Path(path).name)
        return super().translate_path(path)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, clips = tmp_path_factory.mktemp("site") / "page", tmp_path_factory.mktemp("clips")
    write_page(folder, NPM_PACKAGE)
    handler = type("Handler", (Quiet,), {"clips": str(clips)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(folder, clips, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    camera = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    still = HeadMotion(sway=0.05, turn_deg=0.5, expression=0.0)
    steady = replace(BASE, seed=5, fps=30, duration_s=10, width=320, height=240, face_px=130, hr_bpm=72, hrv=0.0)
    with chromium_with_camera(
        (frame for frame, _ in render(replace(steady, light_drift=0.0, head=still))), camera
    ) as chromium:
        yield chromium


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    """The page, ready; whatever a test does with it, no error is said and no other address is asked."""
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    own = urlsplit(site.url).netloc
    page.on("request", lambda request: None if urlsplit(request.url).netloc in (own, "") else wrong.append(request.url))
    page.goto(f"{site.url}/index.html")
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    yield page
    context.close()
    assert not wrong


def frames_of(name: str) -> tuple[Frame, Float]:
    """Return the frames (T, H, W, 3) of a clip and their times (T,)."""
    clip = PAGE_CLIPS[name]
    change = clip.change or (lambda index, frame: frame)
    frames = np.stack([change(index, frame) for index, (frame, _) in enumerate(render(clip.scene))])
    uneven = clip.scene.jitter_s or clip.scene.drop_share
    t_s = np.array(truth(clip.scene).t_s) if uneven else np.arange(len(frames)) / clip.scene.fps
    part = (t_s >= clip.options.get("start_s", 0.0)) & (t_s < clip.options.get("end_s", np.inf))
    return frames[part], t_s[part] - t_s[part][0]


class TestInBrowser:
    """Tests that need a browser and the npm package."""

    pytestmark = in_browser

    @pytest.mark.parametrize("name", PAGE_CLIPS)
    def test_clip_is_answered_as_by_python(self, page: Any, site: Site, name: str) -> None:
        frames, t_s = frames_of(name)
        about = {"width": frames.shape[2], "height": frames.shape[1], "t_s": t_s.tolist()}
        (site.clips / f"{name}.json").write_text(json.dumps(about))
        frames.tofile(site.clips / f"{name}.rgb")
        page.set_default_timeout(600_000)
        answer = json.loads(page.evaluate(FEED, name))
        try:
            measured = autohr.measure(frames, "autohr", t_s=t_s)
        except AutoHRError as error:
            assert answer == {"type": "refused", "why": str(error)}
            return
        assert answer["type"] == "result", answer
        faces = answer["measurement"]["faces"]
        assert len(faces) == len(measured.faces)
        for ours, theirs in zip(faces, measured.faces, strict=True):
            assert ours["reliable"] is theirs.reliable
            assert ours["hr_bpm"] == pytest.approx(theirs.hr_bpm, abs=0.3)
            assert ours["confidence"] == pytest.approx(theirs.confidence, abs=0.05)
            assert ours["why_unreliable"] == theirs.why_unreliable
            assert [window["reliable"] for window in ours["windows"]] == [one.reliable for one in theirs.windows]
        assert answer["measurement"]["notes"] == list(measured.notes)

    def test_file_is_measured(self, page: Any) -> None:
        """The browser's decoder gives other pixels than FFmpeg's, so this is the same rate only nearly."""
        page.click("#tab-file")
        page.set_input_files("#file", str(FACE))
        page.wait_for_selector("#file-result .result, #file-problem:not([hidden])", timeout=300_000)
        assert page.text_content("#file-problem") == ""
        measured = autohr.measure(FACE, "autohr").face
        assert measured.reliable and measured.hr_bpm is not None
        assert abs(float(page.text_content("#file-result .rate")) - measured.hr_bpm) <= 1.5
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    @pytest.mark.parametrize("words", [b"not a video " * 100, b""], ids=["text", "empty"])
    def test_file_that_is_no_video_is_refused(self, page: Any, tmp_path: Path, words: bytes) -> None:
        (tmp_path / "text.mp4").write_bytes(words)
        page.click("#tab-file")
        page.set_input_files("#file", str(tmp_path / "text.mp4"))
        page.wait_for_selector("#file-problem:not([hidden])")
        assert "This is no MP4 or MOV file" in page.text_content("#file-problem")
        assert page.is_visible("#drop")

    def test_camera_is_watched_and_ends_in_an_answer(self, page: Any) -> None:
        """A busy machine leaves out so many pictures that there is no rate; then the page says that."""
        page.click("#start")
        page.wait_for_selector("#face-box:not([hidden])", timeout=120_000)
        # The page's content policy lets no condition be evaluated in it.
        for _ in range(600):
            if float(page.text_content("#since").removesuffix(" s")) >= 5:
                break
            page.wait_for_timeout(200)
        page.click("#stop")
        ended = "#camera-result .says, #camera-problem:not([hidden])"
        page.wait_for_selector(ended, timeout=120_000)
        assert page.text_content(ended)
        assert page.is_visible("#scan") and page.text_content("#stage-note") == "The camera is off."

    @pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
    def test_page_fits(self, page: Any, size: dict[str, int]) -> None:
        page.set_viewport_size(size)
        for tab in ("#tab-file", "#tab-camera"):
            page.click(tab)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@needs_runtime
def test_folder_is_small_and_names_no_outside_address(tmp_path: Path) -> None:
    size = write_page(tmp_path / "page", NPM_PACKAGE)
    files = [path for path in (tmp_path / "page").rglob("*") if path.is_file()]
    assert size == sum(path.stat().st_size for path in files) < 25e6
    for path in files:
        if path.suffix in (".html", ".css", ".js", ".json", ".svg") and path.parent.name != "ort":
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text and "https://" not in text, path.name
    # Again, over an earlier page.
    assert write_page(tmp_path / "page", NPM_PACKAGE) == size


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(AutoHRError, match="is not empty and holds no page of autohr"):
        write_page(tmp_path, NPM_PACKAGE)


def test_runtime_that_is_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutoHRError, match=f"is not the npm package.*npm install {RUNTIME}@{RUNTIME_VERSION}"):
        find_runtime(tmp_path)
    (tmp_path / "package.json").write_text(json.dumps({"name": RUNTIME, "version": "1.2.3"}))
    with pytest.raises(AutoHRError, match=f"1.2.3.*needs {RUNTIME_VERSION}"):
        find_runtime(tmp_path)
    (tmp_path / "package.json").write_text(json.dumps({"name": RUNTIME, "version": RUNTIME_VERSION}))
    with pytest.raises(AutoHRError, match="lacks dist/"):
        find_runtime(tmp_path)


def test_package_of_the_sources_names_the_same_runtime() -> None:
    package = json.loads((NPM_PACKAGE.parents[1] / "package.json").read_text())
    assert package["devDependencies"][RUNTIME] == RUNTIME_VERSION
