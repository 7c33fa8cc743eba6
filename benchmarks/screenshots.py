"""Pictures of the pages, for the documentation and to look at.

    python benchmarks/screenshots.py                       # docs/camera.png, docs/report.png, docs/study.png
    python benchmarks/screenshots.py --all FOLDER          # and every page at 390 and 1366 pixels, light and dark

Everything on them is measured: the camera of the browser plays the face of ``autohr demo``, and the page shows what a
session of its frames gave; the report is that of the demo, the study is of parts of the same video. Needs chromium
(apt-get install chromium) and playwright.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from autohr.live.session import LiveConfig, LiveSession, LiveState
from autohr.methods import Method, load_method
from autohr.service.app import Service
from autohr.service.camera import SOURCE
from autohr.service.config import ServiceConfig
from autohr.service.measuring import measurement_files, summary_of
from autohr.service.openapi import API_VERSION
from autohr.service.results import Result
from autohr.service.server import running
from autohr.types import Frame, Measurement
from autohr.video.decode import open_video
from autohr.video.encode import write_video

DOCS = Path(__file__).resolve().parent.parent / "docs"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1366)
SCHEMES = ("light", "dark")
HEIGHT = {390: 844, 1366: 900}
COLUMN_PX = 1000
"""Width of the pictures in the documentation: the column of the pages and a margin."""
SHOWN_PX = {"camera": 1060, "report": 1100, "study": 1060}
"""Picture of the documentation -> its height; what is below is left out."""
Shoot = Callable[[Any, str], None]
Made = tuple[LiveState, Measurement, Result]


def demo_frames() -> tuple[list[Frame], float]:
    with resources.as_file(resources.files("autohr") / "demo" / "face.mp4") as path, open_video(path) as video:
        frames = [frame.rgb for frame in video]
        assert video.fps_nominal is not None
        return frames, video.fps_nominal


def make_study(folder: Path, frames: list[Frame], fps: float) -> None:
    """Write videos that are reliable, not reliable and refused, in two folders."""
    ten = round(10 * fps)

    def write(name: str, part: list[Frame]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, part, fps=fps)

    for k, start in enumerate((0, 150, 299)):
        write(f"visit 1/participant_{k + 1:02}.mp4", frames[start : start + ten])
    write("visit 2/participant_01 photograph.mp4", [frames[0]] * ten)
    write("visit 2/participant_02.mp4", frames[100 : 100 + ten])
    write("visit 2/participant_03 cut short.mp4", frames[: round(2 * fps)])
    write("visit 2/participant_04 lens cap.mp4", [np.zeros_like(frame) for frame in frames[:ten]])
    (folder / "visit 2" / "participant_05.mp4").write_bytes(b"not a video")


@contextmanager
def browser_with(frames: list[Frame], camera: Path) -> Iterator[Any]:
    """Open chromium, with the frames as its camera again and again."""
    with camera.open("wb") as file:
        # There and back, so that the face does not leap.
        for frame in [*frames, *frames[::-1]]:
            file.write(cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={camera}",
            ],
        )
        yield found
        found.close()


def measure_camera(method: Method, frames: list[Frame], fps: float) -> Made:
    """Return what the page shows last of a session of these frames, its answer, and the files of that.

    The session takes its time, so that the pictures do not depend on how busy the machine is.
    """
    with LiveSession(method, LiveConfig(source=SOURCE)) as session:
        for k, frame in enumerate(frames):
            session.take(frame, k / fps)
        state, measurement = session.state(), session.close()
    files = measurement_files(measurement, command="autohr serve")
    files |= {"session.json": session.as_json(), "readings.csv": session.as_csv()}
    return state, measurement, Result(files)


def shoot_service(browser: Any, served: tuple[int, Service], shoot: Shoot, made: Made) -> None:
    port, app = served
    state, measurement, result = made
    page, links, sent = browser.new_page(), list[Any](), list[Any]()

    def take(link: Any) -> None:
        links.append(link)
        link.on_message(lambda message: sent.append(message))
        link.send(json.dumps({"type": "hello", "api_version": API_VERSION, "in_flight": 1, "max_faces": 4}))

    page.route_web_socket(re.compile("/api/camera"), take)
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("body[data-ready]")
    shoot(page, "start")
    page.click("#start")
    page.locator("#stage.on").wait_for()
    while not sent:  # the page knows then how large its pictures are, and draws the face's box
        page.wait_for_timeout(100)
    links[-1].send(json.dumps({"type": "state", **state.as_dict()}))
    page.locator("#verdict", has_text="eliable").wait_for()
    shoot(page, "camera")
    page.click("#stop")
    about = {"id": app.results.keep(result), "files": sorted(result.files), "summary": summary_of(measurement)}
    links[-1].send(json.dumps({"type": "result", "why": None, **about}))
    page.wait_for_selector("#camera-result .result", timeout=60_000)
    shoot(page, "result")
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = "
        "async () => { throw new DOMException('', 'NotAllowedError'); }; }"
    )
    page.get_by_role("button", name="Forget", exact=True).click()
    page.click("#start")
    page.wait_for_selector("#camera-problem:not([hidden])")
    shoot(page, "denied")
    page.click("#tab-upload")
    shoot(page, "upload")
    page.close()


def shoot_file(browser: Any, path: Path, name: str, shoot: Shoot) -> None:
    page = browser.new_page()
    page.goto(path.as_uri())
    shoot(page, name)
    page.close()


def save(content: bytes, path: Path) -> None:
    """Write a PNG of 256 colours, a third of the size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(content)).convert("RGB").quantize(256).save(path, optimize=True)
    print(path)


def of_all(folder: Path) -> Shoot:
    """Return a function that shoots the whole page in every width and scheme, and names words that stick out."""

    def shoot(page: Any, name: str) -> None:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT[width]})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                page.wait_for_timeout(500)
                save(page.screenshot(full_page=True), folder / f"{name}-{width}-{scheme}.png")
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                print(f"   {name} is {wide} px wide in a window of {width}")

    return shoot


def of_docs(page: Any, name: str) -> None:
    """Shoot what the documentation shows."""
    if name not in SHOWN_PX:
        return
    page.set_viewport_size({"width": WIDTHS[-1], "height": SHOWN_PX[name]})
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(500)
    left = (WIDTHS[-1] - COLUMN_PX) // 2
    save(
        page.screenshot(clip={"x": left, "y": 0, "width": COLUMN_PX, "height": SHOWN_PX[name]}),
        DOCS / f"{name}.png",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every page, width and scheme, into this folder")
    parser.add_argument("--only", nargs="*", default=["service", "report", "study"], help="of these three")
    parser.add_argument("--method", default="autohr", help="of the camera")
    options = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("There is no chromium: apt-get install chromium")
    everything = None if options.all is None else of_all(options.all)

    def shoot(page: Any, name: str) -> None:
        of_docs(page, name)
        if everything is not None:
            everything(page, name)

    frames, fps = demo_frames()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if "report" in options.only:
            run(work, "demo", "--out", "demo")
        if "study" in options.only:
            make_study(work / "study", frames, fps)
            run(work, "measure", "study", "--html", "study.html")
        with browser_with(frames, work / "camera.mjpeg") as browser:
            if "report" in options.only:
                shoot_file(browser, work / "demo" / "report.html", "report", shoot)
            if "study" in options.only:
                shoot_file(browser, work / "study.html", "study", shoot)
            if "service" in options.only:
                method = load_method(options.method)
                with running(ServiceConfig(method=options.method), method) as served:
                    shoot_service(browser, served, shoot, measure_camera(method, frames, fps))


def run(folder: Path, *arguments: str) -> None:
    """Run the program in a folder; refusals of single files are its exit code 1."""
    done = subprocess.run([sys.executable, "-m", "autohr", *arguments], cwd=folder, stdout=subprocess.DEVNULL)
    assert done.returncode in (0, 1), done.returncode


if __name__ == "__main__":
    main()
