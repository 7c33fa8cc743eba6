"""Description of the HTTP interface as an OpenAPI 3.1 document, ``GET /api/openapi.json``.

Written by hand beside the routes of ``app.py``; a test compares paths, methods and the keys of answers with them. The
messages of the socket, which OpenAPI has no words for, are in ``docs/service.md``.
"""

from __future__ import annotations

from typing import Any

from autohr.service.results import MEDIA_TYPES

API_VERSION = "1.0"
"""Version of routes and messages: the first number rises when a client may break, the second when something is added.
"""

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
YES_OR_NO: Schema = {"type": "boolean"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _about(schema: Schema, words: str) -> Schema:
    return {**schema, "description": words}


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


PLACES = _object(
    busy=_about(WHOLE, "Number of places that are taken."), places=_about(WHOLE, "Number of places in all.")
)
SCHEMAS: dict[str, Schema] = {
    "Error": _object(error=_about(TEXT, "Reason, and what to do.")),
    "Health": _object(
        status=_about(TEXT, "Always ok: a server that is not does not answer."),
        version=_about(TEXT, "Version of autohr."),
        api_version=_about(TEXT, "Version of this document."),
        method=_about(TEXT, "Method that measures cameras and files."),
        cameras=PLACES,
        uploads=PLACES,
    ),
    "About": _object(
        version=_about(TEXT, "Version of autohr."),
        api_version=_about(TEXT, "Version of this document."),
        method=TEXT,
        method_title=TEXT,
        weights=TEXT_OR_NULL,
        max_session_s=_about(NUMBER, "Longest camera session, in seconds."),
        max_upload_bytes=_about(WHOLE, "Largest file."),
        max_video_s=_about(NUMBER, "Longest video, in seconds."),
        keep_s=_about(NUMBER, "Longest time that a result is kept, in seconds."),
    ),
    "Upload": _object(
        id=TEXT,
        name=_about(TEXT, "Name of the file as it is shown."),
        state={"enum": ["receiving", "measuring", "measured", "refused"]},
        done_s=_about(NUMBER, "Seconds of the video that are measured."),
        total_s=_about(NUMBER_OR_NULL, "Length of the video in seconds, where its header has it."),
        reason=_about(TEXT_OR_NULL, "Why it is refused."),
        summary={"anyOf": [_named("Summary"), {"type": "null"}]},
        result=_about(TEXT_OR_NULL, "Id of the result, once it is measured."),
        files=_about(_list(TEXT), "Names of the files of the result."),
    ),
    "Summary": _object(
        hr_bpm=_about(NUMBER_OR_NULL, "Rate in beats per minute; null where none could be measured."),
        confidence=_about(NUMBER, "Estimated chance that the rate is within 5 bpm of the true one, 0 to 1."),
        reliable=YES_OR_NO,
        why=_about(TEXT_OR_NULL, "Why it is not reliable."),
        duration_s=NUMBER,
        method=TEXT,
        others=_about(
            _list(_object(hr_bpm=NUMBER_OR_NULL, reliable=YES_OR_NO, start_s=NUMBER, end_s=NUMBER)),
            "Other faces, with the seconds in which they were seen.",
        ),
    ),
}
"""Answers in JSON by name."""


def _answer(words: str, *media_types: str, schema: Schema | None = None) -> Schema:
    if not media_types:
        media_types = ("application/json",) if schema is not None else ()
    content = {media_type: {"schema": schema} if schema else {} for media_type in media_types}
    return {"description": words, "content": content} if content else {"description": words}


def _parameter(name: str, place: str, words: str, schema: Schema = TEXT) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "description": words, "schema": schema}


def _operation(name: str, summary: str, answers: dict[str, Schema], *parameters: Schema, **more: Schema) -> Schema:
    words = "Refused: 401 without the token, 403 from another page, 421 under another name, or as the text says."
    default = _answer(words, schema=_named("Error"))
    operation = {"operationId": name, "summary": summary, "responses": {**answers, "default": default}, **more}
    return {**operation, "parameters": list(parameters)} if parameters else operation


KEY = _parameter("key", "path", "Id, which cannot be guessed.")
JAVASCRIPT, HTML = "text/javascript; charset=utf-8", "text/html; charset=utf-8"
PATHS: dict[str, dict[str, Schema]] = {
    "/": {"get": _operation("read_index", "The page.", {"200": _answer("The page.", HTML)})},
    "/page/{name}": {
        "get": _operation(
            "read_page",
            "A file of the page.",
            {"200": _answer("The file.", JAVASCRIPT, "text/css; charset=utf-8", "image/svg+xml")},
            _parameter("name", "path", "Name of the file."),
        )
    },
    "/autohr-meter.js": {
        "get": _operation("read_meter", "The web component for other pages.", {"200": _answer("It.", JAVASCRIPT)})
    },
    "/health": {
        "get": _operation(
            "read_health",
            "State of the server, and its places.",
            {"200": _answer("It works.", schema=_named("Health"))},
        )
    },
    "/api/openapi.json": {
        "get": _operation("read_openapi", "This document.", {"200": _answer("This.", schema={"type": "object"})})
    },
    "/api/about": {
        "get": _operation("read_about", "Method and limits.", {"200": _answer("Both.", schema=_named("About"))})
    },
    "/api/uploads": {
        "post": _operation(
            "take_upload",
            "Send a video and begin to measure it.",
            {
                "202": _answer("It is being measured.", schema=_named("Upload")),
                "408": _answer("Too slow, or silent for too long.", schema=_named("Error")),
                "413": _answer("Too large.", schema=_named("Error")),
                "422": _answer("Empty.", schema=_named("Error")),
                "503": _answer("No place is free; Retry-After has the seconds to wait.", schema=_named("Error")),
                "507": _answer("The disk does not take the file.", schema=_named("Error")),
            },
            _parameter("name", "query", "Name of the file, as it is to be shown."),
            requestBody={
                "required": True,
                "description": "The file itself, with no form around it.",
                "content": {"application/octet-stream": {}},
            },
        )
    },
    "/api/uploads/{key}": {
        "get": _operation(
            "read_upload",
            "State of an upload. One that nobody asks for is stopped after two minutes.",
            {
                "200": _answer("The state.", schema=_named("Upload")),
                "404": _answer("Unknown, or forgotten.", schema=_named("Error")),
            },
            KEY,
        ),
        "delete": _operation(
            "forget_upload", "Stop it, and forget its result.", {"204": _answer("Done, also if there was none.")}, KEY
        ),
    },
    "/api/results/{key}/{name}": {
        "get": _operation(
            "read_result",
            "A file of a result.",
            {
                "200": _answer("The file.", *dict.fromkeys(MEDIA_TYPES.values())),
                "404": _answer("Forgotten, or without this file.", schema=_named("Error")),
            },
            KEY,
            _parameter("name", "path", "Name of the file.", {"enum": list(MEDIA_TYPES)}),
            _parameter("download", "query", "Have a browser save it.", {**YES_OR_NO, "default": False}),
        )
    },
    "/api/results/{key}": {
        "delete": _operation("forget_result", "Forget it.", {"204": _answer("Done, also if there was none.")}, KEY)
    },
    "/api/camera": {
        "get": _operation(
            "hold_camera",
            "The socket of a camera session. Its messages: docs/service.md of autohr.",
            {"101": _answer("Switched to WebSocket.")},
            _parameter("faces", "query", "Number of people to follow, 1 to 4.", {**WHOLE, "default": 1}),
        )
    },
}
"""Path -> method -> operation."""


def api_document() -> dict[str, Any]:
    """Return the OpenAPI document.

    Examples
    --------
    >>> api_document()["openapi"]
    '3.1.0'
    """
    words = "Heart rate from face video. Every refusal is {error: reason}. HEAD is answered wherever GET is."
    token = {"type": "http", "scheme": "bearer", "description": "Needed only where the server was given a token."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "autohr serve", "version": API_VERSION, "description": words},
        "security": [{}, {"token": []}],
        "paths": PATHS,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": token}},
    }
