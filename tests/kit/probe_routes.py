"""Routes of the tests, declared like any other and then taken off the register: no document shows them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import psycopg
import sqlalchemy.exc
from flask import Blueprint, Response
from pydantic import Field
from sqlalchemy import text

from app.extensions import db
from app.kit import endpoint as kit
from app.kit.endpoint import REGISTRY, answered, created, endpoint, listed, no_content, ok
from app.kit.errors import Conflict, Fault, InvalidPayload, Unavailable
from app.kit.pagination import CursorSigner, PageArguments, filters_of, page_of
from app.kit.payload import Moment, Name, Payload, QueryArguments, View
from app.kit.rate_limits import RateClass

blueprint = Blueprint("probe", __name__, url_prefix="/probe")
DECLARED_BEFORE = set(REGISTRY.endpoints)
PUBLIC = {"public": "a probe", "rate": RateClass.UNLIMITED}
UNAUDITED = {**PUBLIC, "unaudited": "a probe"}
SMALL_LIMIT = 3_000_000


class Thing(Payload):
    name: Name = "x"
    count: int = 0
    share: float = 0.0
    is_big: bool = False
    moment: Moment | None = None
    words: list[str] = []
    anything: Any = None
    inner: dict[str, int] = {}


class ThingView(View):
    name: str
    count: int
    moment: Moment | None


class Arguments(QueryArguments):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    tag: list[str] = []
    since: Moment | None = None
    word: str = ""


class ArgumentsView(View):
    limit: int
    tag: list[str]
    word: str


class Numbers(PageArguments):
    least: int = 0


class NumberView(View):
    number: int


class NumbersView(View):
    items: list[NumberView]
    next_cursor: str | None


@endpoint(
    blueprint,
    "POST",
    "/things",
    body=Thing,
    answers={201: ThingView},
    body_limit=SMALL_LIMIT,
    **UNAUDITED,
)
def create_thing() -> Response:
    thing = kit.body(Thing)
    return created(
        ThingView(name=thing.name, count=thing.count, moment=thing.moment),
        location="/probe/things/1",
    )


@endpoint(blueprint, "GET", "/things", query=Arguments, answers={200: ArgumentsView}, **PUBLIC)
def list_things() -> Response:
    arguments = kit.query(Arguments)
    return ok(ArgumentsView(limit=arguments.limit, tag=arguments.tag, word=arguments.word))


@endpoint(blueprint, "GET", "/things/<uuid:thing_id>", answers={200: ThingView}, **PUBLIC)
def show_thing(thing_id: UUID) -> Response:
    return ok(ThingView(name=str(thing_id), count=1, moment=None))


@endpoint(blueprint, "DELETE", "/things/<uuid:thing_id>", answers={204: None}, **UNAUDITED)
def delete_thing(thing_id: UUID) -> Response:
    return no_content()


@endpoint(
    blueprint,
    "GET",
    "/numbers",
    scope="probe:read",
    rate=RateClass.UNLIMITED,
    query=Numbers,
    answers={200: NumbersView},
)
def list_numbers() -> Response:
    arguments = kit.query(Numbers)
    signer = CursorSigner(key=kit.secret_key(), name="numbers", filters=filters_of(arguments))
    start = arguments.least
    if arguments.cursor is not None:
        start = int(signer.position_of(arguments.cursor)[0]) + 1
    rows = [{"number": number} for number in range(start, 25)][: arguments.limit + 1]
    page = page_of(
        rows, limit=arguments.limit, position=lambda row: [str(row["number"])], signer=signer
    )
    return listed(page, NumberView)


@endpoint(blueprint, "GET", "/wrong-view", answers={200: ThingView}, **PUBLIC)
def show_wrong_view() -> Response:
    return ok(NumberView(number=1))


@endpoint(blueprint, "POST", "/notes/<note>", answers={200: NumberView}, **UNAUDITED)
def write_note(note: str) -> Response:
    db.session.execute(
        text("INSERT INTO probe.starts VALUES (:note, 0)"), {"note": note.removesuffix("-broken")}
    )
    if note.endswith("-broken"):
        raise Conflict("not like this", code="note_is_broken")
    return answered(NumberView(number=1), status=200)


FAILURES = {
    "bug": lambda: ZeroDivisionError("secret inner detail"),
    "database-gone": lambda: sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("secret")),
    "database-cut": lambda: sqlalchemy.exc.InterfaceError("SELECT 1", {}, Exception("secret")),
    "pool-empty": lambda: sqlalchemy.exc.TimeoutError("secret"),
    "driver": lambda: psycopg.OperationalError("secret host"),
    "unavailable": lambda: Unavailable("the part is down", retry_after_s=7),
    "invalid": lambda: InvalidPayload("wrong", faults=[Fault("/a", "some_code", "is wrong")]),
}


@endpoint(blueprint, "GET", "/failures/<kind>", answers={200: NumberView}, **PUBLIC)
def fail(kind: str) -> Response:
    failure = FAILURES[kind]()
    raise failure


for name in set(REGISTRY.endpoints) - DECLARED_BEFORE:
    del REGISTRY.endpoints[name]
