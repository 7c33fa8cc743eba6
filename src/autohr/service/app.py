"""Routes of the local page.

    GET    /, /page/NAME                     the page itself, from memory
    GET    /autohr-meter.js                  the web component for other pages
    GET    /health                           version, method, and how many places are taken
    GET    /api/openapi.json                 these routes for programs (openapi.py)
    GET    /api/about                        method and limits of this server
    POST   /api/uploads?name=NAME            a video as the body: 202 and {"id": ...}
    GET    /api/uploads/ID                   its state
    DELETE /api/uploads/ID                   stop it, forget it
    GET    /api/results/ID/NAME              report.html, measurement.json, session.json or readings.csv
    DELETE /api/results/ID                   forget it (204, also if there is none)
    WS     /api/camera                       frames in, states out (camera.py)

``Guard`` answers HEAD as GET. Every refusal is ``{"error": "what happened, and what to do"}`` with the fitting status.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import cast

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from autohr import __version__
from autohr.methods import Method
from autohr.service.camera import Cameras
from autohr.service.config import ServiceConfig
from autohr.service.guard import REPORT_ALLOWS, REPORT_POLICY, App, Guard
from autohr.service.openapi import API_VERSION, api_document
from autohr.service.results import MEDIA_TYPES, Results
from autohr.service.uploads import Refused, Uploads

METER = "autohr-meter.js"
"""Web component for other pages, a module by itself."""
PAGE_FILES = {
    "app.css": "text/css; charset=utf-8",
    METER: "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "camera.js": "text/javascript; charset=utf-8",
    "result.js": "text/javascript; charset=utf-8",
    "upload.js": "text/javascript; charset=utf-8",
    "wave.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files of the page with their media types. No other name is looked for."""


class Service(FastAPI):
    """Application, with its parts as attributes for tests and benchmarks."""

    results: Results
    uploads: Uploads
    cameras: Cameras


def make_app(config: ServiceConfig, method: Method) -> tuple[App, Service]:
    """Return the application behind its ``Guard``, and the application itself.

    ``method`` measures the cameras. A process of its own measures each upload with the method that ``config`` names.
    """
    folder = resources.files("autohr.service") / "page"
    index = (folder / "index.html").read_bytes()
    page = {name: (folder / name).read_bytes() for name in PAGE_FILES}
    results = Results(config.keep_s, config.max_kept)
    uploads = Uploads(config, results)
    cameras = Cameras(config, method, results)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await uploads.close()
        cameras.close()

    # FastAPI's own pages of documentation load their scripts from another host.
    app = Service(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.results, app.uploads, app.cameras = results, uploads, cameras

    @app.get("/")
    async def read_index() -> Response:
        return Response(index, media_type="text/html; charset=utf-8")

    @app.get("/page/{name}")
    async def read_page(name: str) -> Response:
        if name not in page:
            return _error(404, "There is no such page.")
        return Response(page[name], media_type=PAGE_FILES[name])

    @app.get(f"/{METER}")
    async def read_meter() -> Response:
        return Response(page[METER], media_type=PAGE_FILES[METER])

    @app.get("/health")
    async def read_health() -> dict[str, object]:
        return {
            "status": "ok",
            "version": __version__,
            "api_version": API_VERSION,
            "method": method.name,
            "cameras": {"busy": cameras.n_sessions, "places": config.max_sessions},
            "uploads": {"busy": uploads.n_busy, "places": config.max_uploads},
        }

    @app.get("/api/openapi.json")
    async def read_openapi() -> dict[str, object]:
        return api_document()

    @app.get("/api/about")
    async def read_about() -> dict[str, object]:
        return {
            "version": __version__,
            "api_version": API_VERSION,
            "method": method.name,
            "method_title": method.title,
            "weights": method.weights,
            "max_session_s": config.max_session_s,
            "max_upload_bytes": config.max_upload_bytes,
            "max_video_s": config.max_video_s,
            "keep_s": config.keep_s,
        }

    @app.post("/api/uploads")
    async def take_upload(request: Request, name: str = "video") -> Response:
        length = request.headers.get("content-length", "")
        content_length = int(length) if length.isascii() and length.isdigit() else None
        try:
            upload = await uploads.receive(request.stream(), name, content_length)
        except Refused as refused:
            headers = {} if refused.retry_s is None else {"retry-after": str(refused.retry_s)}
            # The rest of the body is not read; the connection ends with the answer.
            return _error(refused.status, refused.reason, {**headers, "connection": "close"})
        except ClientDisconnect:
            return _error(400, "The upload was cut off.")
        return JSONResponse(upload.as_dict(), 202)

    @app.get("/api/uploads/{key}")
    async def read_upload(key: str) -> Response:
        upload = uploads.find(key)
        return JSONResponse(upload.as_dict()) if upload else _error(404, "There is no such upload, or it is forgotten.")

    @app.delete("/api/uploads/{key}")
    async def forget_upload(key: str) -> Response:
        await uploads.forget(key)
        return Response(status_code=204)

    @app.get("/api/results/{key}/{name}")
    async def read_result(key: str, name: str, download: bool = False) -> Response:
        result = results.find(key)
        if result is None:
            return _error(404, "The result is forgotten. Measure again.")
        if name not in MEDIA_TYPES or name not in result.files:
            return _error(404, f"This result has: {', '.join(result.files)}.")
        headers = {}
        if name.endswith(".html"):
            headers["content-security-policy"] = REPORT_POLICY.format(allow=REPORT_ALLOWS)
        if download:
            headers["content-disposition"] = f'attachment; filename="autohr-{name}"'
        return Response(result.files[name], media_type=MEDIA_TYPES[name], headers=headers)

    @app.delete("/api/results/{key}")
    async def forget_result(key: str) -> Response:
        results.forget(key)
        return Response(status_code=204)

    @app.websocket("/api/camera")
    async def hold_camera(socket: WebSocket) -> None:
        await cameras.serve(socket)

    @app.exception_handler(HTTPException)
    async def say_http_error(_: Request, error: HTTPException) -> Response:
        return _error(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def say_what_is_wrong(_: Request, error: RequestValidationError) -> Response:
        wrong = error.errors()[0]
        return _error(422, f"{wrong['loc'][-1]}: {wrong['msg']}.")

    return Guard(cast(App, app), config), app


def _error(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": reason}, status, headers=headers)
