"""`GET /openapi.json`: what the page's server answers, as OpenAPI 3.1, for programs and for tests that hold it to its word."""

from __future__ import annotations

from typing import Any

import msgspec

from detection.live.gate_api import ChangedGate, NewGate
from detection.live.gate_spec import KINDS, LONGEST_NAME, MOST_POINTS
from detection.live.motion_api import MotionSwitch

Schema = dict[str, Any]
DEEPSTACK = "/v1/vision/detection"

NUMBER, INTEGER, TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}
# Before any of them is reached: see auth.py, faults.py.
ALWAYS = {
    400: "No HTTP request that can be understood.",
    401: "A token is needed (not on this machine alone).",
    403: "Pages of another origin may not ask.",
    404: "There is no such address.",
    405: "Another method is meant.",
    421: "The server does not answer to this name.",
    429: "Too many wrong tokens came from this address.",
    500: "A fault of the program, counted in /metrics.",
    503: "Too many at once, or nothing to be had yet.",
}
UPLOADS = {408: "The body came too slowly.", 413: "The body or the image is too large.", 415: "It is of another kind."}


def schema(version: str) -> Schema:
    """The description as plain data. version: of mobilessd."""
    key, number = _parameter("key", "path", TEXT), _parameter("number", "path", INTEGER)
    boxes = _parameter("boxes", "query", {"enum": ["0", "1"]})
    score = _parameter("score", "query", {"type": "number", "minimum": 0, "maximum": 1})
    seen = _parameter("version", "query", INTEGER, required=True)
    image = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
    paths = {
        "/": {"get": _operation("The page.", _of("text/html"))},
        "/static/{name}": {"get": _operation("Its files.", _of("*/*"), [_parameter("name", "path", TEXT)])},
        "/api/info": {"get": _operation("Sources, classes, thresholds.", _json("Info"))},
        "/api/status": {"get": _operation("How each source is, by its key.", _json("Statuses"))},
        "/api/history/{key}": {"get": _operation("Classes and scores of the last minutes.", _json("History"), [key])},
        "/api/boxes/{key}": {"get": _operation("The newest frame's boxes.", _json("Boxes"), [key])},
        "/frame/{key}.jpg": {"get": _operation("The newest frame.", _of("image/jpeg"), [key, boxes])},
        "/stream/{key}.mjpg": {"get": _operation("Motion JPEG.", _of("multipart/x-mixed-replace"), [key, boxes])},
        "/detect": {
            "post": _operation(
                "What is in an image.",
                _json("Found"),
                [score],
                body=image,
                more={**UPLOADS, 422: "An image, but a broken one.", 499: "The client went away."},
            )
        },
        DEEPSTACK: {
            "post": _operation(
                "What is in an image, as DeepStack says it.",
                _json("Predictions"),
                body={"content": {"multipart/form-data": {"schema": _FORM}}, "required": True},
                more={**UPLOADS, 422: "An image, but a broken one.", 499: "The client went away."},
            )
        },
        "/api/watch": {
            "get": _operation("Lines and zones.", _json("Watch")),
            "post": _operation("Draws one.", _json("Gate"), body=_body("NewGate"), more=_WRITES, status=201),
        },
        "/api/watch/{number}": {
            "put": _operation("Changes one.", _json("Gate"), [number], _body("ChangedGate"), _WRITES),
            "delete": _operation("Removes one.", _json("Gate"), [number, seen], more=_WRITES),
        },
        "/api/watch/{number}/restore": {
            "post": _operation("Brings one back.", _json("Gate"), [number], more=_WRITES),
        },
        "/api/motion/{key}": {
            "put": _operation(
                "Whether the network looks only where something moves.",
                _json("Motion"),
                [key],
                _body("MotionSwitch"),
                {code: words for code, words in _WRITES.items() if code in (408, 413, 415, 499)},
            )
        },
        "/healthz": {"get": _operation("Whether sources and network live.", _of("text/plain"))},
        "/metrics": {"get": _operation("Numbers for Prometheus.", _of("text/plain"))},
        "/openapi.json": {"get": _operation("This description.", {"application/json": {"schema": {"type": "object"}}})},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "mobilessd live", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


_FORM = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "contentMediaType": "image/*"},
        "min_confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["image"],
}
_WRITES = {
    408: "The body came too slowly.",
    409: "Somebody else was faster.",
    413: "The request is too large.",
    415: "JSON is meant.",
    499: "The client went away.",
    501: "Tracking is not installed.",
    507: "The file cannot be written.",
}


def _schemas() -> dict[str, Schema]:
    _, wishes = msgspec.json.schema_components(
        [NewGate, ChangedGate, MotionSwitch], ref_template="#/components/schemas/{name}"
    )
    point = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
    box = {"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4}
    detection = _object({"name": TEXT, "class_id": INTEGER, "score": NUMBER, "box": box}, ["category_id", "track_id"])
    size = {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2}
    found: dict[str, Schema] = {
        "image_size": size,
        "detections": {"type": "array", "items": detection},
    }
    edges = dict.fromkeys(("x_min", "y_min", "x_max", "y_max"), INTEGER)
    prediction = _object({"label": TEXT, "confidence": NUMBER, **edges})
    gate: dict[str, Schema] = {
        "id": INTEGER,
        "version": INTEGER,
        "kind": {"enum": list(KINDS)},
        "name": {"type": "string", "maxLength": LONGEST_NAME},
        "source": TEXT,
        "points": {"type": "array", "items": point, "minItems": 2, "maxItems": MOST_POINTS},
    }
    sample = {"type": "array", "prefixItems": [NUMBER, {"type": "array", "items": NUMBER}], "minItems": 2}
    status: dict[str, Schema] = {
        "state": TEXT,
        "message": TEXT,
        "stale": {"type": "boolean"},
        "motion": {"type": "boolean"},
        "fps": NUMBER,
        "results": INTEGER,
    }
    named = _object({"key": TEXT, "name": TEXT})
    known = _object({"name": TEXT, "id": INTEGER, "color": {"type": "string", "pattern": "^#[0-9a-f]{6}$"}})
    return {
        **{name: dict(wish) for name, wish in wishes.items()},
        "Error": _object({"error": {"type": "string", "maxLength": 500, "pattern": "^[^\\n]+$"}}, ["success"]),
        "Predictions": _object(
            {"success": {"const": True}, "predictions": {"type": "array", "items": prediction}, "duration": INTEGER}
        ),
        "Found": _object({**found, "milliseconds": NUMBER}, loose=True),
        "Boxes": _object({**found, "frame": INTEGER, "time": NUMBER}, loose=True),
        "History": _object({"samples": {"type": "array", "items": sample}, "now": NUMBER}),
        "Statuses": {"type": "object", "additionalProperties": _object(status, loose=True)},
        "Info": _object(
            {
                "sources": {"type": "array", "items": named},
                "classes": {"type": "array", "items": known},
                "score": NUMBER,
                "lowest": NUMBER,
                "detector": TEXT,
            },
            loose=True,
        ),
        "Motion": _object({"motion": {"type": "boolean"}}),
        "Gate": _object(gate),
        "Watch": _object(
            {
                "gates": {"type": "array", "items": {"$ref": "#/components/schemas/Gate"}},
                "options": TEXT,
                "file": {"type": ["string", "null"]},
                "problem": {"type": ["string", "null"]},
            }
        ),
    }


def _object(properties: dict[str, Schema], optional: list[str] = [], loose: bool = False) -> Schema:  # noqa: B006
    """All of `properties` are there; `optional` may be; loose: others too."""
    known = {**properties, **{name: {} for name in optional}}
    return {
        "type": "object",
        "properties": known,
        "required": list(properties),
        "additionalProperties": loose,
    }


def _parameter(name: str, where: str, kind: Schema, required: bool | None = None) -> Schema:
    return {"name": name, "in": where, "required": where == "path" if required is None else required, "schema": kind}


def _of(kind: str) -> Schema:
    return {kind: {"schema": {"type": "string"}}}


def _json(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _body(name: str) -> Schema:
    return {"content": _json(name), "required": True}


def _operation(
    words: str,
    answer: Schema,
    parameters: list[Schema] | None = None,
    body: Schema | None = None,
    more: dict[int, str] | None = None,
    status: int = 200,
) -> Schema:
    """more: what it may answer beside `status` and ALWAYS, all of them with an Error."""
    problems = {
        code: {"description": text, "content": _json("Error")} for code, text in {**ALWAYS, **(more or {})}.items()
    }
    responses = {status: {"description": words, "content": answer}, **problems}
    operation: Schema = {"summary": words, "responses": {str(code): one for code, one in sorted(responses.items())}}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = body
    return operation
