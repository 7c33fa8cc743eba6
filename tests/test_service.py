"""The local page: its door, its limits, its socket, its uploads. A real server in a thread, on a port of its own."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import http.client
import json
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import autohr
from autohr.errors import AutoHRError, VideoError
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, render, write_scene
from autohr.live import record as live_record
from autohr.live.session import LiveFace, LiveFrames
from autohr.methods import load_method
from autohr.reports.measurement import render_measurement_page
from autohr.types import Frame
from autohr.video.decode import open_video
from autohr.video.encode import write_video
from autohr.video.jpeg import decode_jpeg, jpeg_size

pytest.importorskip("fastapi", reason="the page needs pip install 'autohr[serve]'")
pytest.importorskip("websockets", reason="the page needs pip install 'autohr[serve]'")

from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from autohr.service.app import PAGE_FILES, Service
from autohr.service.camera import _read_number
from autohr.service.config import ServiceConfig
from autohr.service.frames import HEAD, JPEG, RGB, pack_frame, parse_frame
from autohr.service.guard import is_our_name, is_same_origin
from autohr.service.openapi import API_VERSION, SCHEMAS
from autohr.service.results import Result, Results
from autohr.service.server import open_port, running
from autohr.service.tls import load_certificate, make_certificate, qr_code
from autohr.service.uploads import shown_name
from made import run

CONFIG = ServiceConfig(method="pos", max_upload_bytes=8_000_000, max_session_s=60.0)
TOKEN = "a token of enough letters"
PICTURE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
LARGE = 10**6

Asks = Callable[..., tuple[int, dict[str, str], bytes]]


def code_jpeg(frame: Frame, *settings: int) -> bytes:
    return cv2.imencode(".jpg", frame[..., ::-1], list(settings))[1].tobytes()


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 s of a drawn face of 75 bpm, every frame coded by itself, as a camera's are."""
    path = tmp_path_factory.mktemp("face") / "face.mkv"
    scene = SceneConfig(
        seed=5, duration_s=9, width=320, height=240, hr_bpm=75, pulse_depth=0.025, head=HeadMotion(sway=0.1), fps=20
    )
    write_scene(scene, path, codec="mjpeg", crf=6)
    return path


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[int, Service]]:
    with running(CONFIG, load_method("pos")) as server:
        yield server


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body. ``host_`` and such name headers with the line below as a dash."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        sent = {name.rstrip("_").replace("_", "-"): value for name, value in headers.items()}
        link.request(method, path, body=body, headers=sent)
        answer = link.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        link.close()


def camera(port: int, query: str = "", **settings: Any) -> ClientConnection:
    """A socket of the camera's, to be entered."""
    link: ClientConnection = connect(f"ws://127.0.0.1:{port}/api/camera{query}", max_size=None, **settings)
    return link


def hear(link: ClientConnection, *kinds: str) -> dict[str, Any]:
    """The next message of one of these kinds."""
    while True:
        told: dict[str, Any] = json.loads(link.recv(timeout=30))
        if told["type"] in kinds:
            return told


def leftovers() -> set[str]:
    return {file.name for file in Path(tempfile.gettempdir()).iterdir() if file.name.startswith("autohr-")}


def wait_for(true: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def finished(port: int, upload: dict[str, Any]) -> dict[str, Any]:
    """The upload when it is no longer being measured."""
    end_s = time.monotonic() + 60
    while upload["state"] not in ("measured", "refused"):
        assert time.monotonic() < end_s
        time.sleep(0.1)
        upload = json.loads(ask(port, "GET", f"/api/uploads/{upload['id']}")[2])
    return upload


# -- messages


def test_a_message_gives_back_its_picture() -> None:
    message = pack_frame(PICTURE, 1234.5, 7)
    told = parse_frame(message, LARGE)
    assert (told.t_ms, told.number, told.kind) == (1234.5, 7, RGB)
    np.testing.assert_array_equal(told.decode(), PICTURE)
    coded = code_jpeg(PICTURE)
    told = parse_frame(pack_frame(coded, 0.0, 2**32 - 1), LARGE)
    assert (told.width, told.height, told.kind) == (64, 48, JPEG)
    np.testing.assert_array_equal(told.decode(), decode_jpeg(coded, LARGE))
    smooth = np.full_like(PICTURE, (200, 120, 40))
    assert np.abs(decode_jpeg(code_jpeg(smooth), LARGE).astype(int) - smooth).max() <= 3, "red stays red"


GOOD = code_jpeg(PICTURE)
MALFORMED = {
    "nothing": (b"", "holds no picture"),
    "a head alone": (HEAD.pack(0.0, 0, 64, 48, RGB), "holds no picture"),
    "no number": (HEAD.pack(float("nan"), 0, 64, 48, RGB) + bytes(64 * 48 * 3), "nan ms"),
    "endless": (HEAD.pack(float("inf"), 0, 64, 48, RGB) + bytes(64 * 48 * 3), "inf ms"),
    "before time": (HEAD.pack(-1.0, 0, 64, 48, RGB) + bytes(64 * 48 * 3), "-1.0 ms"),
    "no size": (HEAD.pack(0.0, 0, 0, 0, RGB) + b"x", "0x0"),
    "too small": (HEAD.pack(0.0, 0, 16, 16, RGB) + bytes(16 * 16 * 3), "16x16"),
    "too large": (HEAD.pack(0.0, 0, 65535, 65535, RGB) + b"x", "65535x65535"),
    "too few bytes": (HEAD.pack(0.0, 0, 64, 48, RGB) + bytes(64 * 48 * 3 - 1), "are not 64x48"),
    "unknown kind": (HEAD.pack(0.0, 0, 64, 48, 9) + bytes(64 * 48 * 3), "no kind of picture 9"),
    "a filled pad": (HEAD.pack(0.0, 0, 64, 48, RGB)[:-1] + b"x" + bytes(64 * 48 * 3), "must be zero"),
    "no JPEG": (HEAD.pack(0.0, 0, 64, 48, JPEG) + b"GIF89a" + bytes(99), "no JPEG"),
    "cut short": (HEAD.pack(0.0, 0, 64, 48, JPEG) + GOOD[:-10], "cut short"),
    "another size": (HEAD.pack(0.0, 0, 48, 64, JPEG) + GOOD, "something else"),
    "progressive": (
        HEAD.pack(0.0, 0, 64, 48, JPEG) + code_jpeg(PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "only baseline",
    ),
    "header gone": (HEAD.pack(0.0, 0, 64, 48, JPEG) + b"\xff\xd8\xff\xda\x00\x02\xff\xd9", "does not say how large"),
    "no marker": (HEAD.pack(0.0, 0, 64, 48, JPEG) + b"\xff\xd8junk\xff\xd9", "no marker"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_message_is_refused_in_words(what: str) -> None:
    message, words = MALFORMED[what]
    with pytest.raises(VideoError, match=re.escape(words)):
        parse_frame(message, LARGE)


def test_a_jpeg_that_claims_more_pixels_than_allowed_is_not_decoded() -> None:
    huge = bytearray(GOOD)
    at = huge.index(b"\xff\xc0") + 5
    huge[at : at + 4] = (60000).to_bytes(2, "big") * 2
    assert jpeg_size(bytes(huge)) == (60000, 60000)
    with pytest.raises(VideoError, match="at most 1000000 pixels"):
        decode_jpeg(bytes(huge), LARGE)


def test_any_change_of_a_jpeg_is_a_picture_or_a_refusal() -> None:
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(300):
        bent = bytearray(GOOD)
        for at in rng.integers(0, len(bent), 5):
            bent[at] = rng.integers(256)
        try:
            assert decode_jpeg(bytes(bent), LARGE).dtype == np.uint8
            outcomes.add("picture")
        except VideoError:
            outcomes.add("refused")
    assert outcomes == {"picture", "refused"}


# -- the door


@pytest.mark.parametrize(
    ("host", "bound", "ours"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("[::1]:8000", "127.0.0.1", True),
        ("localhost:9000", "127.0.0.1", True),  # a tunnel ends at another port
        ("evil.example", "127.0.0.1", False),
        ("evil.example:8000", "0.0.0.0", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("localhost@evil.example", "127.0.0.1", False),
        ("192.168.1.7:8000", "127.0.0.1", False),
        ("192.168.1.7:8000", "0.0.0.0", True),
        ("box.example:8000", "box.example", True),
        (f"{socket.gethostname()}:8000", "0.0.0.0", True),
        ("", "127.0.0.1", False),
        ("localhost:port", "127.0.0.1", False),
        ("localhost:99999", "127.0.0.1", False),
        ("localhost/..", "127.0.0.1", False),
    ],
)
def test_only_names_of_this_machine_are_answered(host: str, bound: str, ours: bool) -> None:
    assert is_our_name(host, replace(CONFIG, host=bound, token=TOKEN)) is ours


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        (None, True),
        ("http://localhost:8000", True),
        ("http://localhost:8001", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
        ("http://localhost:8000.evil.example", False),
    ],
)
def test_only_the_page_itself_may_change_anything(origin: str | None, same: bool) -> None:
    assert is_same_origin(origin, "localhost:8000") is same


def test_foreign_hosts_and_pages_are_kept_out(served: tuple[int, Service]) -> None:
    port, app = served
    status, _, body = ask(port, "GET", "/", Host="evil.example")
    assert status == 421 and "no name of this machine" in json.loads(body)["error"]
    assert ask(port, "POST", "/api/uploads", b"x", Origin="http://evil.example")[0] == 403
    assert ask(port, "DELETE", "/api/results/x", Origin="null")[0] == 403
    with pytest.raises(InvalidStatus) as refused, camera(port, origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    assert app.cameras.n_sessions == 0 and app.uploads.n_busy == 0
    with camera(port, origin=f"http://127.0.0.1:{port}") as own:
        hear(own, "hello")


def test_a_token_is_asked_once_and_then_in_a_cookie() -> None:
    with running(replace(CONFIG, token=TOKEN), load_method("pos")) as (port, _):
        assert ask(port, "GET", "/")[0] == 401
        assert ask(port, "GET", "/?token=wrong")[0] == 401
        assert ask(port, "GET", "/", Cookie=f"autohr_token={TOKEN}")[0] == 401
        assert ask(port, "GET", "/", Authorization="Bearer " + TOKEN[:-1])[0] == 401
        assert ask(port, "GET", "/", Authorization="Bearer " + TOKEN)[0] == 200
        status, headers, _ = ask(port, "GET", "//evil.example/?token=" + TOKEN.replace(" ", "%20") + "&a=1")
        assert status == 303 and headers["location"] == "/evil.example/?a=1"
        assert "HttpOnly" in headers["set-cookie"] and TOKEN not in headers["set-cookie"]
        cookie = headers["set-cookie"].split(";")[0]
        assert ask(port, "GET", "/", Cookie=f"other=1; {cookie}")[0] == 200
        with pytest.raises(InvalidStatus), camera(port):
            pass
        with camera(port, additional_headers={"Cookie": cookie}) as link:
            hear(link, "hello")


def test_only_pages_of_allowed_origins_are_let_in() -> None:
    allowed, other = "https://a.example", "https://a.example.evil"
    asks = {"Access_Control_Request_Method": "DELETE", "Access_Control_Request_Headers": "authorization"}
    with running(replace(CONFIG, allowed_origins=(allowed,)), load_method("pos")) as (port, app):
        status, headers, body = ask(port, "GET", "/api/about", Origin=allowed)
        assert status == 200 and headers["access-control-allow-origin"] == allowed and headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in headers
        status, headers, body = ask(port, "OPTIONS", "/api/results/x", Origin=allowed, **asks)
        assert status == 204 and body == b"" and headers["access-control-allow-origin"] == allowed
        assert "DELETE" in headers["access-control-allow-methods"]
        assert "authorization" in headers["access-control-allow-headers"]
        assert ask(port, "DELETE", "/api/results/x", Origin=allowed)[0] == 204
        # A refusal, too, can be read by the page that it is for.
        assert ask(port, "POST", "/api/uploads", b"", Origin=allowed)[1]["access-control-allow-origin"] == allowed
        with camera(port, origin=allowed) as link:
            hear(link, "hello")
        for origin in (other, "null", "http://a.example", "https://A.example"):
            assert "access-control-allow-origin" not in ask(port, "GET", "/api/about", Origin=origin)[1]
            assert ask(port, "OPTIONS", "/api/results/x", Origin=origin, **asks)[0] == 403
            assert ask(port, "DELETE", "/api/results/x", Origin=origin)[0] == 403
            with pytest.raises(InvalidStatus), camera(port, origin=origin):
                pass
        status, headers, _ = ask(port, "GET", "/api/about", Origin=allowed, Host="evil.example")
        assert status == 421 and "access-control-allow-origin" not in headers
        wait_for(lambda: app.cameras.n_sessions == 0, "the session ends")


def test_a_page_of_an_allowed_origin_needs_the_token_too() -> None:
    allowed, word = "https://a.example", TOKEN.replace(" ", "%20")
    config = replace(CONFIG, allowed_origins=(allowed,), token=TOKEN)
    with running(config, load_method("pos")) as (port, _):
        status, headers, _ = ask(port, "GET", "/api/about", Origin=allowed)
        assert status == 401 and headers["access-control-allow-origin"] == allowed
        assert ask(port, "OPTIONS", "/api/about", Origin=allowed, Access_Control_Request_Method="GET")[0] == 204
        assert ask(port, "GET", "/api/about", Origin=allowed, Authorization="Bearer " + TOKEN)[0] == 200
        status, headers, _ = ask(port, "GET", f"/page/app.js?token={word}", Origin=allowed)
        assert status == 200 and "set-cookie" not in headers
        with pytest.raises(InvalidStatus), camera(port, origin=allowed):
            pass
        with pytest.raises(InvalidStatus), camera(port, f"?token={word}", origin="https://b.example"):
            pass
        with camera(port, f"?token={word}", origin=allowed) as link:
            hear(link, "hello")


@pytest.mark.parametrize("origin", ["https://a.example", "http://localhost:3000", "http://[::1]:3000", "http://a.b:81"])
def test_an_origin_is_written_as_browsers_send_it(origin: str) -> None:
    assert replace(CONFIG, allowed_origins=(origin,)).allowed_origins == (origin,)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("*", "give one like"),
        ("null", "give one like"),
        ("", "give one like"),
        ("a.example", "give one like"),
        ("file:///tmp/a.html", "give one like"),
        ("https://*.example", "give one like"),
        ("https://a.example,https://b.example", "give one like"),
        ("https://a.example:99999", "give one like"),
        ("https://\u00e4.example", "give one like"),
        ("https://a.example/", "give 'https://a.example'"),
        ("https://a.example/page?x=1#y", "give 'https://a.example'"),
        ("https://A.example:443", "give 'https://a.example'"),
        ("http://me:word@a.example:81", "give 'http://a.example:81'"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"is no origin; {re.escape(words)}"):
        replace(CONFIG, allowed_origins=("https://b.example", origin))


def test_an_origin_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "serve", "--method", "pos", "--allow-origin", "https://b.example/")
    assert code == 2 and "'https://b.example/' is no origin; give 'https://b.example'." in err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": "0.0.0.0"}, "give a token"),
        ({"host": "example.org"}, "give a token"),
        ({"host": "0.0.0.0", "token": "short"}, "at least 16"),
        ({"max_sessions": 0}, "max_sessions"),
        ({"idle_s": 0.0}, "idle_s"),
        ({"port": 70000}, "port"),
    ],
)
def test_a_config_that_would_be_unsafe_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **changes)


# -- the page


def test_the_page_is_whole_and_asks_no_other_host(served: tuple[int, Service]) -> None:
    port, _ = served
    folder = resources.files("autohr.service") / "page"
    assert {file.name for file in folder.iterdir()} == {*PAGE_FILES, "index.html"}
    for path in ("/", *(f"/page/{name}" for name in PAGE_FILES)):
        status, headers, body = ask(port, "GET", path)
        assert status == 200 and body
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        text = body.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://(?!localhost)[a-z0-9]", text.replace("${", "")), path
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", text), f"{path}: the policy allows nothing inline"
    for path in ("/page/../app.py", "/page/%2e%2e%2fapp.py", "/docs", "/openapi.json", "/nothing"):
        status, _, body = ask(port, "GET", path)
        assert status == 404 and json.loads(body)["error"]


def test_head_is_get_without_body_and_health_counts_places(served: tuple[int, Service]) -> None:
    port, app = served
    for path in ("/", "/health", "/page/app.js", "/nothing"):
        got, head = ask(port, "GET", path), ask(port, "HEAD", path)
        assert head[0] == got[0] and head[1]["content-length"] == str(len(got[2])) and head[2] == b""
    with camera(port) as link:
        hear(link, "hello")
        status, _, body = ask(port, "GET", "/health")
        told = json.loads(body)
        assert status == 200 and told["status"] == "ok" and told["method"] == "pos"
        assert told["version"] == autohr.__version__ and told["cameras"] == {"busy": 1, "places": CONFIG.max_sessions}
    wait_for(lambda: app.cameras.n_sessions == 0, "the place to be free")


# -- the description of the interface

PAGE_OF_DOCS = (Path(__file__).parents[1] / "docs" / "service.md").read_text(encoding="utf-8")


def check_keys(value: Any, schema: dict[str, Any], where: str) -> None:
    """Fail where an answer and its schema have other keys."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema and value is not None:
        schema = schema["anyOf"][0]
        check_keys(value, schema, where)
    elif schema.get("type") == "object":
        assert set(value) == set(schema["properties"]) == set(schema["required"]), where
        for name, inner in schema["properties"].items():
            check_keys(value[name], inner, f"{where}.{name}")
    elif schema.get("type") == "array":
        for item in value:
            check_keys(item, schema["items"], where)
    elif "type" in schema:
        kinds = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "null": type(None)}
        allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(isinstance(value, kinds[one]) for one in allowed), (where, value)  # type: ignore[arg-type]


def test_the_openapi_document_has_the_routes_that_exist(served: tuple[int, Service]) -> None:
    port, app = served
    told = json.loads(ask(port, "GET", "/api/openapi.json")[2])
    assert told["openapi"].startswith("3.1.") and told["info"]["version"] == API_VERSION
    described = {(path, method.upper()) for path, methods in told["paths"].items() for method in methods}
    existing = {(r.path, m) for r in app.routes if isinstance(r, Route) for m in r.methods or ()}
    existing |= {(route.path, "GET") for route in app.routes if isinstance(route, WebSocketRoute)}
    assert described == existing
    for path, methods in told["paths"].items():
        for operation in methods.values():
            in_path = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path)), path
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(told)):
        assert reference in told["components"]["schemas"]


def test_answers_have_the_keys_that_the_document_states(served: tuple[int, Service]) -> None:
    port, _ = served
    for path, name in (("/health", "Health"), ("/api/about", "About"), ("/api/uploads/none", "Error")):
        check_keys(json.loads(ask(port, "GET", path)[2]), SCHEMAS[name], path)
    check_keys(json.loads(ask(port, "GET", "/api/results/a/b?download=x")[2]), SCHEMAS["Error"], "a bad query")
    upload = json.loads(ask(port, "POST", "/api/uploads", b"no video")[2])
    check_keys(finished(port, upload), SCHEMAS["Upload"], "upload")


def test_the_docs_have_every_field_of_every_message(served: tuple[int, Service]) -> None:
    port, _ = served
    with camera(port) as link:
        hello = json.loads(link.recv(timeout=30))
        assert hello["type"] == "hello" and hello["api_version"] == API_VERSION
        link.send(pack_frame(PICTURE, 0.0, 1))
        messages = [hello, hear(link, "taken"), hear(link, "state")]
        link.send("no JSON")
        messages.append(hear(link, "refused"))
        link.send('{"type": "stop"}')
        messages.append(hear(link, "result"))
    fields = {name: set(message) for message in messages for name in [message["type"]]}
    fields |= {"face": {one.name for one in dataclasses.fields(LiveFace)}, "wave": {"fps", "start_s", "values"}}
    fields |= {"frames": {one.name for one in dataclasses.fields(LiveFrames)}, "end": {"type", "api_version", "why"}}
    fields |= {"summary": set(SCHEMAS["Summary"]["properties"])}
    for name, wanted in fields.items():
        section = re.search(rf"^### `{name}`.*?(?=^##)", PAGE_OF_DOCS, re.DOTALL | re.MULTILINE)
        assert section is not None, name
        assert set(re.findall(r"^\| `(\w+)` \|", section[0], re.MULTILINE)) == wanted - {"type"}, name
    assert f"version {API_VERSION}" in PAGE_OF_DOCS


def test_page_and_report_share_their_colours() -> None:
    page = (resources.files("autohr.service") / "page" / "app.css").read_text()
    report = resources.files("autohr.reports").joinpath("page.html.j2").read_text()
    colours = re.findall(r"--[a-z-]+: #[0-9a-f]+", page)
    # The shade of tables that move in their box is the report's alone.
    reported = [one for one in re.findall(r"--[a-z-]+: #[0-9a-f]+", report) if not one.startswith("--shade")]
    assert len(colours) > 20 and colours == reported[: len(colours)]


def test_results_go_by_number_and_by_age() -> None:
    now_s = [time.monotonic()]
    results = Results(keep_s=60, max_kept=2, clock=lambda: now_s[0])
    keys = [results.keep(Result({"readings.csv": str(k)})) for k in range(3)]
    assert [results.find(key) is not None for key in keys] == [False, True, True]
    now_s[0] += 61
    assert len(results) == 0 and results.find(keys[2]) is None


# -- uploads


@pytest.mark.slow
def test_an_upload_is_measured_as_the_command_does(served: tuple[int, Service], face: Path) -> None:
    port, app = served
    before = leftovers()
    status, _, body = ask(port, "POST", "/api/uploads?name=..%2F..%2Fme%20too.mkv", face.read_bytes())
    told = json.loads(body)
    assert status == 202 and told["name"] == "me too.mkv"
    told = finished(port, told)
    assert told["state"] == "measured", told
    check_keys(told, SCHEMAS["Upload"], "upload")
    expected = replace(autohr.measure(face, "pos"), path="me too.mkv")
    got = json.loads(ask(port, "GET", f"/api/results/{told['result']}/measurement.json")[2])
    assert got == expected.as_dict()
    assert told["summary"]["hr_bpm"] == pytest.approx(75, abs=3)
    _, headers, page = ask(port, "GET", f"/api/results/{told['result']}/report.html")
    made_at = re.search(r"Page made: ([\d :-]+)<", page.decode())
    assert made_at and page.decode() == render_measurement_page([expected], made_at=made_at[1])
    assert "default-src 'none'" in headers["content-security-policy"] and "script" not in headers
    assert app.uploads.n_files == 0 and app.uploads.n_busy == 0
    assert leftovers() == before
    assert ask(port, "DELETE", f"/api/uploads/{told['id']}")[0] == 204
    assert ask(port, "GET", f"/api/results/{told['result']}/measurement.json")[0] == 404


@pytest.mark.slow
def test_what_is_no_video_is_refused_in_words(served: tuple[int, Service]) -> None:
    port, app = served
    told = json.loads(ask(port, "POST", "/api/uploads?name=notes.mp4", b"no video at all\n" * 99)[2])
    told = finished(port, told)
    assert told["state"] == "refused" and "notes.mp4" in told["reason"] and "/proc" not in told["reason"]
    assert app.uploads.n_files == 0 and not app.results.find(told["result"] or "")


@pytest.mark.slow
def test_an_upload_that_is_refused_says_what_was_noticed(served: tuple[int, Service], tmp_path: Path) -> None:
    port, _ = served
    noise = [np.random.default_rng(k).integers(0, 256, (64, 96, 3), dtype=np.uint8) for k in range(40)]
    write_video(tmp_path / "a.mkv", noise, fps=20)
    data = (tmp_path / "a.mkv").read_bytes()
    told = json.loads(ask(port, "POST", "/api/uploads?name=cut.mkv", data[: len(data) // 2])[2])
    told = finished(port, told)
    assert told["state"] == "refused" and "No face" in told["reason"] and "truncated" in told["reason"]


@pytest.mark.slow
def test_wild_times_of_a_client_end_no_session(served: tuple[int, Service]) -> None:
    port, app = served
    picture = np.full((48, 64, 3), 90, np.uint8)
    there_ms = [0.0, 40.0, 80.0, 120.0, 160.0]
    times_ms = [1e15, 0.0, 1e12, *there_ms, *(1.7e12 + t_ms for t_ms in there_ms)]
    with camera(port) as link:
        hear(link, "hello")
        for number, t_ms in enumerate(times_ms):
            link.send(pack_frame(picture, t_ms, number))
            assert hear(link, "taken", "refused")["type"] == "taken"
        link.send('{"type": "stop"}')
        told = hear(link, "result")
    assert "No face" in told["why"] and "refused" in told["why"] and "leapt 2 time(s)" in told["why"]
    wait_for(lambda: app.cameras.n_sessions == 0, "the place to be free")


def test_an_upload_keeps_to_its_limits(served: tuple[int, Service]) -> None:
    port, app = served
    status, _, body = ask(port, "POST", "/api/uploads", b"")
    assert status == 422 and "empty" in json.loads(body)["error"]
    # Said before it is sent; and sent without having been said.
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(f"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**12}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert b" 413 " in answer and b"at most 8 MB" in answer
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        # The server may close while we still send, and the answer is then lost on the way.
        with contextlib.suppress(ConnectionError):
            for _ in range(140):
                raw.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
            assert b" 413 " in raw.recv(4096)
    wait_for(lambda: app.uploads.n_files == 0, "what was too large is let go of")
    # Cut off in the middle: nothing stays.
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\nhalf")
        wait_for(lambda: app.uploads.n_files == 1, "the upload begins")
    wait_for(lambda: app.uploads.n_files == app.uploads.n_busy == 0, "the upload is let go of")


@pytest.mark.slow
def test_places_time_and_silence_have_ends(face: Path) -> None:
    config = replace(CONFIG, max_uploads=1, upload_idle_s=0.5, max_measuring_s=0.4)
    with running(config, load_method("pos")) as (port, app):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            raw.sendall(b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\nhalf")
            wait_for(lambda: app.uploads.n_busy == 1, "the upload begins")
            status, headers, body = ask(port, "POST", "/api/uploads", b"x")
            assert status == 503 and headers["retry-after"] == "15" and "already" in json.loads(body)["error"]
            assert b" 408 " in raw.recv(4096)
        told = finished(port, json.loads(ask(port, "POST", "/api/uploads", face.read_bytes())[2]))
        assert told["state"] == "refused" and "longer than" in told["reason"]
        wait_for(lambda: app.uploads.n_files == 0, "the file is gone")


@pytest.mark.slow
def test_a_video_that_is_too_long_or_takes_too_much_is_refused(face: Path) -> None:
    for changes, words in (({"max_video_s": 5.0}, "longer than the"), ({"max_memory_bytes": 300 * 2**20}, "memory")):
        with running(replace(CONFIG, **changes), load_method("pos")) as (port, _):
            told = finished(port, json.loads(ask(port, "POST", "/api/uploads?name=a.mkv", face.read_bytes())[2]))
            assert told["state"] == "refused", told
            assert words in told["reason"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a.mp4", "a.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\me.mov", "me.mov"),
        ("a\nb\x00c\u202e.mp4", "abc.mp4"),
        ("", "video"),
        ("/", "video"),
        ("x" * 500, "x" * 120),
    ],
)
def test_a_name_is_only_shown(given: str, shown: str) -> None:
    assert shown_name(given) == shown


# -- the camera


@pytest.mark.slow
def test_the_page_measures_as_the_command_does(served: tuple[int, Service], face: Path) -> None:
    """The frames of a file, sent without loss: the session's numbers are those of ``autohr measure``."""
    port, app = served
    expected = autohr.measure(face, "pos").as_dict()
    states = []
    with camera(port) as link, open_video(face) as video:
        hear(link, "hello")
        for n, frame in enumerate(video):
            link.send(pack_frame(frame.rgb, 1000 * frame.t_s, n))
            while (told := hear(link, "taken", "state"))["type"] == "state":
                states.append(told)
            assert told["number"] == n
        link.send(json.dumps({"type": "stop"}))
        result = hear(link, "result")
    got = json.loads(ask(port, "GET", f"/api/results/{result['id']}/measurement.json")[2])
    assert got["frames"] == expected["frames"] and got["frames"]["dropped"] == 0
    (one,), (other,) = got["faces"], expected["faces"]
    for name in ("hr_bpm", "confidence", "snr_db"):
        assert one[name] == pytest.approx(other[name], abs=1e-6)
    assert one["bvp"]["values"] == pytest.approx(other["bvp"]["values"], abs=1e-4)
    assert [w["hr_bpm"] for w in one["windows"]] == pytest.approx([w["hr_bpm"] for w in other["windows"]], abs=1e-6)
    assert one["hr_bpm"] == pytest.approx(75, abs=3)
    assert any(state["hr_bpm"] is not None for state in states), "a number is shown before the end"
    rows = ask(port, "GET", f"/api/results/{result['id']}/readings.csv")[2].decode().splitlines()
    assert rows[0].startswith("time_s,") and len(rows) > 1
    record = json.loads(ask(port, "GET", f"/api/results/{result['id']}/session.json")[2])
    assert len(record["readings"]) == len(rows) - 1
    report = ask(port, "GET", f"/api/results/{result['id']}/report.html")[2]
    assert b"autohr serve" in re.sub(rb"<[^>]+>", b"", report)
    wait_for(lambda: app.cameras.n_sessions == 0, "the session ends")


@pytest.mark.slow
def test_a_long_session_of_the_page_loses_no_reading(
    served: tuple[int, Service], face: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = served
    monkeypatch.setattr(live_record, "MAX_WAVES", 1)
    monkeypatch.setattr(live_record, "MAX_READINGS", 2)
    with open_video(face) as video:
        frames = [frame.rgb for frame in video]
    with camera(port) as link:
        hear(link, "hello")
        for n, frame in enumerate([*frames, *frames]):
            link.send(pack_frame(frame, 1000 * n / 30, n))
            hear(link, "taken")
        link.send(json.dumps({"type": "stop"}))
        result = hear(link, "result")
    files = f"/api/results/{result['id']}"
    (one,) = json.loads(ask(port, "GET", f"{files}/measurement.json")[2])["faces"]
    rows = list(csv.DictReader(ask(port, "GET", f"{files}/readings.csv")[2].decode().splitlines()))
    record = json.loads(ask(port, "GET", f"{files}/session.json")[2])
    ends_s = [round(window["end_s"], 3) for window in one["windows"]]
    assert len(ends_s) > 2 and ends_s[0] < 11
    assert [float(row["time_s"]) for row in rows] == [row["time_s"] for row in record["readings"]] == ends_s


@pytest.mark.slow
def test_a_page_chooses_among_the_faces_that_it_asks_for(served: tuple[int, Service]) -> None:
    port, app = served
    scene = SceneConfig(seed=2, duration_s=2, fps=10, width=480, height=240, n_faces=2)
    frames = [frame for frame, _ in render(scene)]
    shown = []
    with camera(port, "?faces=2") as link:
        assert hear(link, "hello")["max_faces"] >= 2
        for n, frame in enumerate(frames):
            link.send(pack_frame(frame, 100.0 * n, n))
            while (told := hear(link, "taken", "state"))["type"] == "state":
                continue
        told = hear(link, "state")
        assert len(told["faces"]) == 2 and told["others"] == 0
        (other,) = {face["id"] for face in told["faces"]} - {told["face_id"]}
        link.send(json.dumps({"type": "show", "face_id": other}))
        link.send(json.dumps({"type": "show", "face_id": "none"}))
        hear(link, "refused")
        for n in range(3):
            link.send(pack_frame(frames[-1], 2000.0 + 100.0 * n, 20 + n))
            hear(link, "taken")
        deadline_s = time.monotonic() + 20
        while other not in shown and time.monotonic() < deadline_s:
            shown.append(hear(link, "state")["face_id"])
        assert shown[-1] == other
    wait_for(lambda: app.cameras.n_sessions == 0, "the session ends")


@pytest.mark.parametrize(
    ("text", "n"), [(None, 1), ("", 1), ("3", 3), ("0", 1), ("5", 1), ("-1", 1), ("x", 1), ("²", 1)]
)
def test_a_number_of_people_that_cannot_be_is_one(text: str | None, n: int) -> None:
    assert _read_number(text, 4) == n


def test_malformed_messages_are_told_and_then_end_the_session(served: tuple[int, Service]) -> None:
    port, app = served
    with camera(port) as link:
        hear(link, "hello")
        link.send(pack_frame(PICTURE, 0.0, 1))
        hear(link, "taken")
        for message, _ in list(MALFORMED.values())[:8]:
            link.send(message)
            assert hear(link, "refused")["why"]
        link.send("no JSON")
        assert "stop" in hear(link, "refused")["why"]
        link.send(pack_frame(PICTURE, 40.0, 2))
        assert hear(link, "taken")["number"] == 2
        for _ in range(CONFIG.max_bad_messages):
            link.send("[" * 900)
        told = hear(link, "result")
        assert "messages were no pictures" in told["why"] and told["summary"] is None
        with pytest.raises(ConnectionClosed):
            hear(link, "never")
    with camera(port) as link:
        hear(link, "hello")
        with pytest.raises(ConnectionClosed) as closed:
            link.send(bytes(CONFIG.max_frame_bytes + 1))
            hear(link, "never")
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    wait_for(lambda: app.cameras.n_sessions == 0, "both sessions end")


def test_a_client_that_leaves_leaves_nothing(served: tuple[int, Service]) -> None:
    port, app = served
    kept = len(app.results)
    for leave in ("close", "cut"):
        with camera(port) as link:
            hear(link, "hello")
            link.send(pack_frame(PICTURE, 0.0, 1))
            hear(link, "taken")
            if leave == "cut":
                link.socket.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: app.cameras.n_sessions == 0, "the session ends")
    assert len(app.results) == kept


def test_more_cameras_than_places_are_told_so(served: tuple[int, Service]) -> None:
    port, app = served
    with contextlib.ExitStack() as open_links:
        for _ in range(CONFIG.max_sessions):
            hear(open_links.enter_context(camera(port)), "hello")
        with camera(port) as late:
            assert "takes no more" in hear(late, "end")["why"]
            with pytest.raises(ConnectionClosed) as closed:
                hear(late, "never")
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
    wait_for(lambda: app.cameras.n_sessions == 0, "the places are free again")


def test_silence_and_length_end_a_session() -> None:
    for config, words in (
        (replace(CONFIG, idle_s=0.4), "No picture came"),
        (replace(CONFIG, max_session_s=0.4), "session ended after"),
    ):
        with running(config, load_method("pos")) as (port, _), camera(port) as link:
            assert words in hear(link, "result")["why"]


# -- encryption


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("making a certificate needs openssl")
    folder = tmp_path_factory.mktemp("pair")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1")
    command = [openssl, "req", *kind, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_page_socket_and_limits_are_those_of_http(pair: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=pair[0])
    config = replace(CONFIG, token=TOKEN, header_s=0.3)
    with running(config, load_method("pos"), load_certificate(*pair)) as (port, app):
        link = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=trusting)
        link.request("GET", "/?token=" + TOKEN.replace(" ", "%20"))
        answer = link.getresponse()
        cookie = answer.headers["set-cookie"]
        link.close()
        assert answer.status == 303 and cookie.endswith("; Secure")
        sent = {"Cookie": cookie.split(";")[0], "Origin": f"https://127.0.0.1:{port}"}
        with connect(f"wss://127.0.0.1:{port}/api/camera", ssl=trusting, additional_headers=sent) as own:
            hear(own, "hello")
            own.send(pack_frame(PICTURE, 0.0, 1))
            hear(own, "taken")
        with trusting.wrap_socket(
            socket.create_connection(("127.0.0.1", port), 10), server_hostname="127.0.0.1"
        ) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            with contextlib.suppress(ssl.SSLError, ConnectionResetError):
                assert raw.recv(100) == b"", "a slow head is let go of"
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(port, "GET", "/")
        wait_for(lambda: app.cameras.n_sessions == 0, "the session ends")


def test_a_wrong_certificate_is_one_line(capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    for given, words in (
        ((certificate.with_name("none.pem"), key), "No such file"),
        ((key, certificate), "no pair of PEM files"),
        ((certificate, None), "no pair of PEM files"),
    ):
        with pytest.raises(AutoHRError, match=words):
            load_certificate(*given)
    both = key.with_name("both.pem")
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    assert load_certificate(both)
    code, _, err = run(capsys, "serve", "--method", "pos", "--tls-cert", key)
    assert code == 1 and len(err.strip().splitlines()) == 1
    assert run(capsys, "serve", "--method", "pos", "--tls-key", key)[0] == 2
    assert run(capsys, "serve", "--method", "pos", "--tls", "--tls-cert", both)[0] == 2


def test_a_certificate_made_here_without_its_library_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    code, _, err = run(capsys, "serve", "--method", "pos", "--tls")
    assert code == 1 and err == "autohr: --tls needs cryptography: pip install 'autohr[phone]'.\n"


def test_a_certificate_made_here_is_for_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="pip install 'autohr[phone]'")
    context, fingerprint = make_certificate("0.0.0.0")
    with running(CONFIG, load_method("pos"), context) as (port, _):
        path = tmp_path / "made.pem"
        path.write_text(ssl.get_server_certificate(("127.0.0.1", port)))
        der = ssl.PEM_cert_to_DER_cert(path.read_text())
        assert fingerprint.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
        trusting = ssl.create_default_context(cafile=path)
        link = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=trusting)
        link.request("GET", "/health")
        assert link.getresponse().status == 200
        link.close()


def test_the_code_of_an_address_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    assert qr_code("x") is None
    monkeypatch.delitem(sys.modules, "segno")
    pytest.importorskip("segno", reason="pip install 'autohr[phone]'")
    address = f"https://192.168.1.7:8000/?token={'x' * 32}"
    lines = (qr_code(address) or "").splitlines()
    upper = np.array([[letter in "█▀" for letter in line] for line in lines])
    lower = np.array([[letter in "█▄" for letter in line] for line in lines])
    light = np.stack([upper, lower], axis=1).reshape(-1, upper.shape[1])
    picture = np.kron(light, np.ones((8, 8))).astype(np.uint8) * 255
    assert cv2.QRCodeDetector().detectAndDecode(picture)[0] == address


def test_a_session_that_reached_its_limit_begins_anew_at_once() -> None:
    config = replace(CONFIG, max_session_s=0.2, max_sessions=1)
    with running(config, load_method("pos")) as (port, _):
        for _ in range(3):
            with camera(port) as link:
                assert hear(link, "hello", "end")["type"] == "hello"
                assert "session ended after" in hear(link, "result")["why"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such functions")
def test_freed_memory_goes_back_to_the_system() -> None:
    """In a process of its own, whose heap nobody else fills; the piece that stays would keep all below it."""
    code = """
import os, threading
from pathlib import Path
from autohr.service.memory import release_memory, share_heaps

def used_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def work():
    pieces = [bytes(100_000) for _ in range(1000)]
    kept.append(pieces[-1])

share_heaps()
kept = []
for _ in range(2):
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
before_mb = used_mb()
release_memory()
print(used_mb() < 60, before_mb)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("True"), (done.stdout, done.stderr)


# -- the server


def test_a_slow_or_huge_head_is_let_go_of() -> None:
    with running(replace(CONFIG, header_s=0.3), load_method("pos")) as (port, _):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(100) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            answer = b""
            with contextlib.suppress(ConnectionError):
                raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
                answer = raw.recv(100)
            assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 431")
        assert ask(port, "GET", "/")[0] == 200


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with open_port(replace(CONFIG, port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AutoHRError, match="--port"):
            open_port(replace(CONFIG, port=port))
        code, _, err = run(capsys, "serve", "--method", "pos", "--port", port)
    assert code == 1 and len(err.strip().splitlines()) == 1


def test_without_the_extra_the_pip_line_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("autohr.service")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, err = run(capsys, "serve", "--method", "pos")
    assert code == 1 and "pip install 'autohr[serve]'" in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of another process is POSIX")
def test_ctrl_c_ends_it_cleanly() -> None:
    command = [sys.executable, "-m", "autohr", "serve", "--method", "pos", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stderr is not None
        try:
            line = server.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            assert found, line
            with camera(int(found[1])) as link:
                hear(link, "hello")
                server.send_signal(signal.SIGINT)
                out, err = server.communicate(timeout=30)
        finally:
            server.kill()
    assert server.returncode == 0 and "Stopped" in out and err == ""
