"""The description of what can be asked, as OpenAPI 3.1 and as a page for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from importlib.metadata import version
from typing import Any, Protocol

TEXT, NUMBER, COUNT, FLAG = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}


def _object(optional: Iterable[str] = (), **properties: Any) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


SCHEMAS = {
    "Error": _object(error={"type": "string", "description": "One line: what was wrong, and what is wanted."}),
    "Clip": _object(
        ("ahead", "error", "stage", "done", "total"),
        id=TEXT,
        name=TEXT,
        state={"enum": ["waiting", "reading", "done", "failed"]},
        ahead={"type": "integer", "description": "While it waits: the clips before it."},
        error=TEXT,
        stage={"enum": ["", "faces", "pictures", "compare", "files"]},
        done={"type": "integer", "description": "Frames of this stage that are done."},
        total={"type": ["integer", "null"], "description": "Frames of the clip, by its header."},
    ),
    "View": _object(
        width=COUNT,
        height=COUNT,
        networks={
            "type": "array",
            "items": _object(
                name=TEXT,
                variants={
                    "type": "array",
                    "items": _object(
                        name=TEXT, how=TEXT, probabilities={"type": "object", "additionalProperties": NUMBER}
                    ),
                },
            ),
        },
    ),
    "About": _object(
        version=TEXT,
        networks={"type": "array", "items": TEXT},
        colors={"type": "object", "additionalProperties": TEXT},
        max_minutes=NUMBER,
        longest=TEXT,
        max_megabytes=NUMBER,
        max_clips=COUNT,
        example=FLAG,
    ),
    "Health": _object(ready=FLAG, readers=COUNT, room=FLAG, waiting=COUNT),
    "Live": _object(live=FLAG),
    "Object": {"type": "object"},
}
KINDS = {"File": "application/octet-stream", "Text": "text/plain", "Page": "text/html"}
MEANINGS = {
    200: "Here it is.",
    201: "It is taken, and will be read.",
    204: "It is deleted.",
    401: "No token, or a wrong one.",
    404: "There is none, or it is no longer here.",
    408: "The upload is too slow.",
    409: "The clip is not read yet.",
    413: "The file is too large.",
    422: "It cannot be read; the error says why.",
    429: "As many clips wait as are taken; Retry-After says when to try again.",
    503: "Not at present.",
    507: "The server's disk is full; nothing was kept.",
}


class Described(Protocol):
    """What is known of an operation."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def says(self) -> Mapping[int, str]: ...
    @property
    def query(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bool: ...
    @property
    def open(self) -> bool: ...


def describe(operations: Iterable[Described], guarded: bool) -> dict[str, Any]:
    """As OpenAPI 3.1. guarded: whether a token is wanted."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = re.sub(r":\w+}", "}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _describe(operation, guarded and not operation.open)
    components: dict[str, Any] = {"schemas": {**SCHEMAS, **_prediction()}}
    if guarded:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    info = {"title": "fan-fer serve", "version": version("fan_ext"), "description": "Emotion from face videos."}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _prediction() -> dict[str, Any]:
    """The parts of prediction.schema.json, referred to as this description does; what is answered is a clip."""
    text = resources.files("fan_fer").joinpath("prediction.schema.json").read_text()
    parts = json.loads(text.replace("#/$defs/", "#/components/schemas/prediction_"))["$defs"]
    return {
        "Prediction": {"$ref": "#/components/schemas/prediction_clip"},
        **{f"prediction_{name}": part for name, part in parts.items()},
    }


def _describe(operation: Described, guarded: bool) -> dict[str, Any]:
    named = re.findall(r"{(\w+)(:int)?}", operation.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": COUNT if kind else TEXT} for name, kind in named
    ] + [{"name": name, "in": "query", "description": text, "schema": TEXT} for name, text in operation.query.items()]
    says = {**operation.says, **({401: "Error"} if guarded else {})}
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()} {operation.path}").strip("_"),
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {str(code): _response(code, says[code]) for code in sorted(says)},
    }
    if operation.body:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        described["requestBody"] = {"required": True, "content": content}
    if guarded:
        described["security"] = [{"token": []}]
    return described


def _response(code: int, name: str) -> dict[str, Any]:
    response: dict[str, Any] = {"description": MEANINGS[code]}
    if name in KINDS:
        response["content"] = {KINDS[name]: {}}
    elif name:
        response["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return response


def human_page(description: Mapping[str, Any]) -> str:
    """The description to read, in HTML that fetches nothing but our own style sheet."""
    parts = []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            lines = [(part["name"], part.get("description", "in the path")) for part in operation["parameters"]]
            lines += [(code, response["description"]) for code, response in operation["responses"].items()]
            rows = "".join(f"<dt><code>{escape(name)}</code></dt><dd>{escape(text)}</dd>" for name, text in lines)
            token = '<p class="quiet">Wants the token.</p>' if "security" in operation else ""
            parts.append(
                f'<section class="card"><h2><code>{method.upper()} {escape(path)}</code></h2>'
                f"<p>{escape(operation['summary'])}</p>{token}"
                f'<dl class="numbers plain">{rows}</dl></section>'
            )
    info = description["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>fan-fer serve</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="/static/favicon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/static/app.css"></head><body><main>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        '<p class="quiet">For programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
        f"{''.join(parts)}</main></body></html>"
    )
