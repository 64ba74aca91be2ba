"""The steps of the isolation walk: making a request of a case, and judging its answer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import Connection, text
from werkzeug.test import TestResponse

from app.kit.endpoint import REGISTRY, Endpoint
from app.kit.ids import new_id
from tests.factories import walls
from tests.factories.isolation_cases import CASES, Case, Ids
from tests.factories.people import Caller
from tests.factories.tenants import SENTINEL, Tenant

LACKS_A_SCOPE = 403


def walk(app: Flask, name: str, a: Tenant, b: Tenant) -> None:
    """Call one route as everybody of A and as nobody, with B's ids in each place."""
    spec, case = REGISTRY.endpoints[name], CASES[name]
    stranger = nobody_like(b)
    for who, caller in {**a.callers(), "anonymous": None}.items():
        for places in places_of(case):
            known = call(app, spec, case, caller, own=a.ids, foreign=b.ids, places=places)
            unknown = call(app, spec, case, caller, own=a.ids, foreign=stranger, places=places)
            judge(spec, case, who, known, foreign=True)
            assert seen(known, b.ids) == seen(unknown, stranger), f"{who} can tell in {places}"
        if not places_of(case):
            judge(spec, case, who, call(app, spec, case, caller, own=a.ids), foreign=False)


def places_of(case: Case) -> list[frozenset[str]]:
    """Return where foreign ids go: each place alone (own ids elsewhere), then all of them."""
    places = [
        name
        for name, named in (("path", case.path), ("query", case.query), ("body", case.body_names))
        if named
    ]
    each = [frozenset({place}) for place in places]
    if case.path and case.query:
        each.append(frozenset({"path", "no query"}))
    return [*each, frozenset(places)] if len(places) > 1 else each


def call(
    app: Flask,
    spec: Endpoint,
    case: Case,
    caller: Caller | None,
    *,
    own: Ids,
    foreign: Ids | None = None,
    places: frozenset[str] = frozenset(),
    query: Mapping[str, Any] | None = None,
) -> TestResponse:
    """Return the answer to this caller (None: without a credential) of a request with `foreign` ids in `places`."""

    def ids(place: str) -> Ids:
        return foreign if foreign is not None and place in places else own

    path = app.url_map.bind("localhost").build(
        spec.name, {name: ids("path")[kind] for name, kind in case.path.items()}, spec.method
    )
    named = {} if "no query" in places else case.query
    arguments = {name: str(ids("query")[kind]) for name, kind in named.items()}
    arguments |= {**case.extra, **(query or {})}
    body = {} if case.body is None else {"json": case.body(ids("body"))}
    if caller is None:
        client = app.test_client()
        return client.open(path, method=spec.method, query_string=arguments, **body)
    return caller.call(spec.method, path, query_string=arguments, **body)


def judge(spec: Endpoint, case: Case, who: str, answer: TestResponse, *, foreign: bool) -> None:
    """Fail unless the answer is that to somebody who may know nothing of what he named."""
    assert_silent(answer)
    status = answer.status_code
    told = f"{who}: {status} {answer.text[:300]}"
    if spec.public is None and who == "anonymous":
        assert status == 401, told
    elif not foreign:
        assert status < 500, told
    elif spec.public is not None or who == "owner":
        assert status == case.foreign, told
    else:
        assert status in {case.foreign, LACKS_A_SCOPE}, told


def assert_silent(answer: TestResponse) -> None:
    """Fail when a word of B is in the answer."""
    said = f"{answer.headers}\n{answer.get_data(as_text=True)}".lower()
    assert SENTINEL.lower() not in said, said[:500]


def seen(answer: TestResponse, ids: Ids) -> tuple[int, str, str]:
    """Return what a caller can learn of the answer, whatever id he asked with."""
    said = answer.get_data(as_text=True)
    for name, value in ids.items():
        said = said.replace(str(value), f"<{name}>")
    request_id = answer.headers.get("X-Request-Id")
    return answer.status_code, answer.content_type, said.replace(str(request_id), "<request>")


def nobody_like(tenant: Tenant) -> dict[str, Any]:
    """Return ids of the same form that nobody has."""
    return {
        name: new_id() if _is_uuid(value) else f"nobody-{secrets.token_hex(6)}{_tail(value)}"
        for name, value in tenant.ids.items()
    }


def rows_of(database: Connection, tenant: Tenant) -> dict[str, tuple[int, str]]:
    """Return how many rows of every table are the tenant's, and their checksum."""
    tables = {
        f"{schema}.{name}": "t.organization_id = :id"
        for schema in ("public", "measurements")
        for name in walls.tenant_tables(database, schema=schema)
    }
    tables["organizations"] = "t.id = :id"
    tables["users"] = "t.id IN (SELECT user_id FROM memberships WHERE organization_id = :id)"
    return {name: _checksum(database, name, mine, tenant) for name, mine in tables.items()}


def foreign_rows(database: Connection, table: str, tenant: Tenant) -> int:
    """Return how many rows of other organizations a request of this tenant reads in the table."""
    granted = "SELECT has_table_privilege('dg_app', CAST(:table AS regclass), 'SELECT')"
    if not database.scalar(text(granted), {"table": table}):
        return 0
    scope = (
        "SELECT set_config('app.organization_id', :id, true), set_config('role', 'dg_app', true)"
    )
    database.execute(text(scope), {"id": str(tenant.owner.organization_id)})
    others = f"SELECT count(*) FROM {table} WHERE organization_id <> :id"
    count = database.scalar(text(others), {"id": tenant.owner.organization_id})
    database.execute(text("RESET ROLE"))
    return int(count or 0)


def listing(case: Case) -> Case:
    """Return the case without the filters that a whole list needs none of."""
    kept = {name: kind for name, kind in case.query.items() if name in case.lists_by}
    return Case(path=case.path, query=kept, extra=case.extra)


def readable_relations(database: Connection) -> list[str]:
    """Return the tenant tables and guard views of `public`."""
    rows = database.execute(
        text(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " AND a.attname = 'organization_id' WHERE c.relkind IN ('r', 'p', 'v')"
            " AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname"
        )
    )
    return [name for (name,) in rows]


def _checksum(database: Connection, table: str, mine: str, tenant: Tenant) -> tuple[int, str]:
    row = database.execute(
        text(
            "SELECT count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '')"
            f" FROM {table} t WHERE {mine}"
        ),
        {"id": tenant.owner.organization_id},
    ).one()
    return row[0], row[1]


def _is_uuid(value: object) -> bool:
    if isinstance(value, UUID):
        return True
    try:
        return bool(UUID(str(value)))
    except ValueError:
        return False


def _tail(value: object) -> str:
    return "@example.com" if "@" in str(value) else ""
