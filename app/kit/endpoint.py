"""@endpoint: what a route declares - who may call it, what it takes and answers - in one place.

The declaration is executed (authentication, scope, rate class, body limit, transaction) and read
(OpenAPI, the isolation walk, the architecture tests): what is documented is what runs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Blueprint, Response, current_app, g, request
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.extensions import limiter
from app.kit import conditional, idempotency, query_string, rate_limits, request_body
from app.kit.actor import Actor, Authenticator
from app.kit.errors import Forbidden, InvalidPayload, Unauthorized
from app.kit.logging import bind_context
from app.kit.pagination import Page
from app.kit.payload import MOST_FAULTS, QueryArguments, faults_of, json_faults
from app.kit.rate_limits import RateClass
from app.kit.transactions import transaction

JSON = "application/json"
ONE_MEGABYTE = 1_048_576
# A token that we signed ourselves and that has run out is no guess: a client then refreshes.
OUR_OWN_EXPIRED = frozenset({"token_expired", "session_ended"})

Handler = Callable[..., Response]
Body = TypeVar("Body")
Query = TypeVar("Query", bound=QueryArguments)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The declaration of one route and method."""

    name: str
    rule: str
    method: str
    summary: str
    description: str
    scope: str | None
    public: str | None
    rate: RateClass
    body: Any
    query: type[QueryArguments] | None
    answers: Mapping[int, Any]
    errors: tuple[int, ...]
    audit: str | None
    unaudited: str | None
    accepts: tuple[str, ...]
    body_limit: int
    tag: str
    examples: Mapping[str, Any] = field(default_factory=dict)
    unreplayed: str | None = None
    versioned: bool = False

    @property
    def is_tagged(self) -> bool:
        """Return whether the route shows one object, whose state then has a tag."""
        name = self.name.rpartition(".")[2]
        return self.method == "GET" and name.startswith("show_") and "<" in self.rule

    @property
    def takes_idempotency_key(self) -> bool:
        """Return whether the route heeds the header: every POST of somebody whom we know."""
        return self.method == "POST" and self.public is None


@dataclass(slots=True)
class Registry:
    """Every declared endpoint of the application, and how it authenticates."""

    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    authenticator: Authenticator | None = None


REGISTRY = Registry()


def endpoint(
    blueprint: Blueprint,
    method: str,
    rule: str,
    *,
    rate: RateClass,
    answers: Mapping[int, Any],
    scope: str | None = None,
    public: str | None = None,
    body: Any = None,
    query: type[QueryArguments] | None = None,
    errors: tuple[int, ...] = (),
    audit: str | None = None,
    unaudited: str | None = None,
    accepts: tuple[str, ...] = (JSON,),
    body_limit: int = ONE_MEGABYTE,
    examples: Mapping[str, Any] | None = None,
    unreplayed: str | None = None,
    versioned: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare a route of the blueprint; the decorated handler answers with a Response.

    `scope` names what the actor must hold; a route without one says in `public` why anybody may
    call it. A route that writes names its `audit` event or says in `unaudited` why there is none.
    `answers` maps each success status to its model (or None for an empty body, or media types).
    A POST whose answer holds a secret says so in `unreplayed`: no copy is kept for a repeat.
    A PUT, PATCH or DELETE that heeds `if_match()` is `versioned`; the others refuse the header.
    """

    def declare(handler: Handler) -> Handler:
        summary, _, description = inspect.cleandoc(handler.__doc__ or handler.__name__).partition(
            "\n"
        )
        spec = Endpoint(
            name=f"{blueprint.name}.{handler.__name__}",
            rule=rule,
            method=method,
            summary=summary.strip().rstrip("."),
            description=description.strip(),
            scope=scope,
            public=public,
            rate=rate,
            body=body,
            query=query,
            answers=answers,
            errors=errors,
            audit=audit,
            unaudited=unaudited,
            accepts=accepts,
            body_limit=body_limit,
            tag=blueprint.name,
            examples=examples or {},
            unreplayed=unreplayed,
            versioned=versioned,
        )
        REGISTRY.endpoints[spec.name] = spec
        deed = handler
        if spec.takes_idempotency_key:
            deed = _once(handler, spec)
        elif spec.is_tagged:
            deed = conditional.tagged(handler)
        elif spec.method != "GET" and not versioned:
            deed = conditional.unversioned(handler)
        limited = rate_limits.limited(deed, spec.rate, name=spec.name)

        @functools.wraps(handler)
        def run(**arguments: Any) -> Response:
            g.endpoint = spec
            if spec.public is None:
                _authenticate(spec)
            if spec.query is None:
                query_string.refuse_arguments()
            with transaction():
                # Switched off for load tests: then not even asked.
                return (limited if limiter.enabled else deed)(**arguments)

        blueprint.add_url_rule(
            rule, endpoint=handler.__name__, view_func=run, methods=[method], strict_slashes=True
        )
        return handler

    return declare


def actor() -> Actor:
    """Return who asks. Raises Unauthorized on a public route without a credential."""
    known: Actor | None = g.get("actor")
    if known is None:
        raise Unauthorized("this needs a credential")
    return known


def body(model: type[Body]) -> Body:
    """Return the validated JSON body of the model that the route declared.

    Raises InvalidPayload with every broken rule, UnsupportedMediaType, PayloadTooLarge.
    """
    return validated(_adapter(model), raw_body())


def raw_body() -> bytes:
    """Return the bytes of the body, decompressed, within the route's media types and limit.

    Raises UnsupportedMediaType, PayloadTooLarge, BadRequest for a broken gzip stream.
    """
    # Kept only where the fingerprint of a keyed request read it before the handler does.
    kept: bytes | None = g.pop("raw_body", None)
    if kept is not None:
        return kept
    return request_body.read(g.endpoint.accepts, limit=g.endpoint.body_limit)


def query(model: type[Query]) -> Query:
    """Return the validated query arguments. Raises InvalidPayload with every broken rule."""
    try:
        return model.model_validate(query_string.values_of(model), strict=False)
    except ValidationError as error:
        raise InvalidPayload("the query breaks the rules", faults=faults_of(error)) from None


def validated(adapter: TypeAdapter[Body], raw: bytes) -> Body:
    """Return the parsed JSON text. Raises InvalidPayload with every broken rule."""
    try:
        value = adapter.validate_json(raw)
    except ValidationError as error:
        raise InvalidPayload("the body breaks the rules", faults=faults_of(error)) from None
    faults = json_faults(raw)
    if faults:
        raise InvalidPayload("the body breaks the rules", faults=faults[:MOST_FAULTS])
    return value


def ok(view: BaseModel, *, version: int | None = None) -> Response:
    """Answer 200 with the view, tagged with the version of its object where that counts its changes."""
    return conditional.with_version(answered(view, status=200), version)


def created(
    view: BaseModel, *, location: str | None = None, version: int | None = None
) -> Response:
    """Answer 201 with the view and where it lives, tagged as by ok()."""
    return conditional.with_version(answered(view, status=201, location=location), version)


def answered(
    view: BaseModel, *, status: int, location: str | None = None, exclude_none: bool = False
) -> Response:
    """Answer with the view, which must be of the model that the route declares for the status."""
    declared = g.endpoint.answers.get(status)
    if declared is not None and not isinstance(view, declared):
        raise TypeError(f"{g.endpoint.name} answers {status} with {type(view).__name__}")
    text = view.model_dump_json(exclude_none=exclude_none)
    response = Response(text, status=status, mimetype=JSON)
    if location is not None:
        response.headers["Location"] = location
    return response


def no_content() -> Response:
    """Answer 204."""
    return Response(status=204)


def listed(page: Page[Any], view: type[BaseModel]) -> Response:
    """Answer 200 with one page; `Link: rel="next"` names the next one."""
    items = ",".join(view.model_validate(row).model_dump_json() for row in page.items)
    cursor = TypeAdapter(str | None).dump_json(page.next_cursor).decode()
    total = "" if page.total is None else f',"total":{page.total}'
    text = f'{{"items":[{items}],"next_cursor":{cursor}{total}}}'
    response = Response(text, status=200, mimetype=JSON)
    if page.next_cursor:
        response.headers["Link"] = query_string.next_link(page.next_cursor)
    return response


def _once(handler: Handler, spec: Endpoint) -> Handler:
    def once(**arguments: Any) -> Response:
        key = request.headers.get(idempotency.HEADER)
        if key is None:
            return handler(**arguments)
        payload = b""
        if spec.body is not None:
            payload = g.raw_body = raw_body()
        return idempotency.answer_once(
            lambda: handler(**arguments),
            key=key,
            actor=actor(),
            route=spec.name,
            payload=payload,
            is_replayable=spec.unreplayed is None,
        )

    return once


def _authenticate(spec: Endpoint) -> None:
    authenticator = REGISTRY.authenticator
    if authenticator is None:
        raise RuntimeError("no authenticator is registered")
    try:
        who = authenticator(_bearer())
    except Unauthorized as refusal:
        if refusal.code not in OUR_OWN_EXPIRED:
            rate_limits.count_stranger()
        raise
    g.actor = who
    bind_context(organization_id=str(who.organization_id), actor=who.label)
    if spec.scope is not None and not who.may(spec.scope):
        raise Forbidden(f"this needs the scope {spec.scope}", code="missing_scope")


def _bearer() -> str:
    header = request.headers.get("Authorization", "")
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Unauthorized("send `Authorization: Bearer <token or API key>`")
    return token.strip()


@functools.cache
def _cached_adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _adapter(model: type[Body]) -> TypeAdapter[Body]:
    adapter: TypeAdapter[Body] = _cached_adapter(model)  # type: ignore[arg-type]
    return adapter


def secret_key() -> str:
    """Return the application's secret, with which cursors are signed."""
    return str(current_app.config["SECRET_KEY"])
