"""OpenAPI 3.1 generated from the declared endpoints: what is documented is what runs."""

from __future__ import annotations

import functools
import json
import re
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Flask, Response, current_app, render_template
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from app.kit.endpoint import JSON, REGISTRY, Endpoint, endpoint
from app.kit.openapi_parts import HEADER_PARAMETERS, PROBLEM_SCHEMA
from app.kit.problems import PROBLEM
from app.kit.rate_limits import RateClass

blueprint = Blueprint("openapi", __name__, template_folder="templates")
REFERENCE = "#/components/schemas/{model}"
PATH_PARAMETER = re.compile(r"<(?:(?P<kind>\w+):)?(?P<name>\w+)>")
PUBLIC = "the description of the API holds nothing of any tenant"


@endpoint(
    blueprint,
    "GET",
    "/api/v1/openapi.json",
    public=PUBLIC,
    rate=RateClass.ANONYMOUS,
    answers={200: JSON},
)
def show_openapi() -> Response:
    """Answer the OpenAPI 3.1 description of this API."""
    return Response(_document_text(), mimetype=JSON)


@endpoint(
    blueprint, "GET", "/docs", public=PUBLIC, rate=RateClass.ANONYMOUS, answers={200: "text/html"}
)
def show_docs() -> Response:
    """Show the description of this API as a page to read and try."""
    response = Response(render_template("docs.html"), mimetype="text/html")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return response


def openapi_document(app: Flask) -> dict[str, Any]:
    """Return the description of every route that the application serves."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=str):
        spec = REGISTRY.endpoints.get(rule.endpoint)
        if spec is not None:
            path = PATH_PARAMETER.sub(r"{\g<name>}", str(rule))
            paths.setdefault(path, {})[spec.method.lower()] = _operation(spec, str(rule))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DevGuard",
            "version": str(app.config["VERSION"]),
            "description": "What calls to paid APIs cost, which queries are slow, "
            "which dependencies are at risk, and what deserves attention first.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**_generated()[1], "Problem": PROBLEM_SCHEMA},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token of POST /api/v1/auth/login or an API key.",
                }
            },
        },
    }


@functools.cache
def _document_text() -> str:
    return json.dumps(openapi_document(current_app), separators=(",", ":"))


def _operation(spec: Endpoint, rule: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": spec.name.replace(".", "_"),
        "tags": [spec.tag],
        "summary": spec.summary,
        "description": _description(spec),
        "security": [] if spec.public else [{"bearer": []}],
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(spec),
            *_header_parameters(spec),
        ],
        "responses": _responses(spec),
    }
    if spec.body is not None:
        operation["requestBody"] = {"required": True, "content": _body_content(spec)}
    return operation


def _description(spec: Endpoint) -> str:
    parts = [spec.description] if spec.description else []
    if spec.scope:
        parts.append(f"Needs the scope `{spec.scope}`.")
    return "\n\n".join(parts)


def _body_content(spec: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media_type in spec.accepts:
        if media_type == JSON:
            content[media_type] = {"schema": _schema_of(spec.body, "validation")}
            if spec.examples:
                content[media_type]["examples"] = {
                    name: {"value": value} for name, value in spec.examples.items()
                }
        else:
            content[media_type] = {"schema": {"type": "string"}}
    return content


def _responses(spec: Endpoint) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in spec.answers.items():
        answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if isinstance(model, str):
            answer["content"] = {media_type: {"schema": {}} for media_type in model.split(", ")}
        elif model is not None:
            answer["content"] = {JSON: {"schema": _schema_of(model, "serialization")}}
        responses[str(status)] = answer
    if spec.is_tagged:
        responses["304"] = {"description": HTTPStatus.NOT_MODIFIED.phrase}
    for status in sorted({*spec.errors, *_implied_errors(spec)}):
        responses.setdefault(
            str(status),
            {
                "description": HTTPStatus(status).phrase,
                "content": {PROBLEM: {"schema": {"$ref": REFERENCE.format(model="Problem")}}},
            },
        )
    return responses


def _implied_errors(spec: Endpoint) -> set[int]:
    statuses = {500, 503}
    if spec.public is None:
        statuses |= {401, 429}
    if spec.scope is not None:
        statuses |= {403}
    if spec.rate is not RateClass.UNLIMITED:
        statuses |= {429}
    if spec.body is not None:
        statuses |= {400, 413, 415, 422}
    if spec.query is not None:
        statuses |= {422}
    if spec.takes_idempotency_key:
        statuses |= {400, 409, 422}
    if spec.is_tagged or spec.method not in {"GET", "POST"}:
        statuses |= {400}
    if spec.versioned:
        statuses |= {412}
    if "<" in spec.rule:
        statuses |= {404}
    return statuses


def _path_parameters(rule: str) -> list[dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = {"uuid": {"type": "string", "format": "uuid"}}
    return [
        {
            "name": match["name"],
            "in": "path",
            "required": True,
            "schema": kinds.get(match["kind"] or "", {"type": "string"}),
        }
        for match in PATH_PARAMETER.finditer(rule)
    ]


def _query_parameters(spec: Endpoint) -> list[dict[str, Any]]:
    if spec.query is None:
        return []
    schema = TypeAdapter(spec.query).json_schema(ref_template=REFERENCE, by_alias=True)
    required = set(schema.get("required", ()))
    definitions = schema.get("$defs", {})
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _inlined(property_, definitions),
            **({"description": property_["description"]} if "description" in property_ else {}),
        }
        for name, property_ in schema.get("properties", {}).items()
    ]


def _header_parameters(spec: Endpoint) -> list[dict[str, Any]]:
    chosen = {
        "Idempotency-Key": spec.takes_idempotency_key,
        "If-None-Match": spec.is_tagged,
        "If-Match": spec.versioned,
    }
    return [
        {"name": name, "in": "header", "required": False, **HEADER_PARAMETERS[name]}
        for name, is_heeded in chosen.items()
        if is_heeded
    ]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if reference:
        return _inlined(definitions[reference.rsplit("/", 1)[-1]], definitions)
    # `null` cannot be written in a query string; an absent argument stands for it.
    if "anyOf" in schema:
        kinds = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
        rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
        if len(kinds) == 1:
            return _inlined({**rest, **kinds[0]}, definitions)
        if len(kinds) < len(schema["anyOf"]):
            return {**_inlined(rest, definitions), "anyOf": _inlined(kinds, definitions)}
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _models(spec: Endpoint) -> list[tuple[Any, JsonSchemaMode]]:
    models: list[tuple[Any, JsonSchemaMode]] = []
    if spec.body is not None:
        models.append((spec.body, "validation"))
    models += [
        (model, "serialization")
        for model in spec.answers.values()
        if model is not None and not isinstance(model, str)
    ]
    return models


@functools.cache
def _generated() -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return the schema of every (model, mode) and the definitions that they refer to.

    All in one run, so that one model has one name wherever it occurs.
    """
    wanted = {pair: None for spec in REGISTRY.endpoints.values() for pair in _models(spec)}
    schemas, rest = TypeAdapter.json_schemas(
        [(pair, pair[1], TypeAdapter(pair[0])) for pair in wanted], ref_template=REFERENCE
    )
    return {key: schema for (key, _), schema in schemas.items()}, rest.get("$defs", {})


def _schema_of(model: Any, mode: JsonSchemaMode) -> dict[str, Any]:
    schema: dict[str, Any] = _generated()[0][model, mode]
    return schema
