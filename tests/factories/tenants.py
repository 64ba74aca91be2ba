"""Two whole organizations for the isolation proof: A, who calls, and B, whose rows nobody else may see.

Every feature fills its own tables: add a function to FILLERS. It writes `tenant.text("<table>")` into
every text that it can (for B that is SENTINEL-B-<table>), through the API where there is a route;
puts the ids that requests can name into `tenant.ids`; and what lists must show into `tenant.listed`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Flask

from app.extensions import celery, db
from app.organizations.roles import KEY_SCOPES, SERVICE_SCOPES, Role
from tests.factories import people
from tests.factories.people import Caller, Person

API = "/api/v1"
SENTINEL = "SENTINEL-B"


@dataclass
class Tenant:
    """One organization with at least one row of everything."""

    app: Flask
    mark: str
    owner: Person
    viewer: Person
    keys: dict[str, Caller] = field(default_factory=dict)
    # What a request can name: "project" -> id. Texts and numbers are ids too.
    ids: dict[str, Any] = field(default_factory=dict)
    # What a list must show its owner, and nothing else: "project" -> ids as text.
    listed: dict[str, set[str]] = field(default_factory=dict)

    def text(self, table: str) -> str:
        return f"{self.mark}-{table}"

    def callers(self) -> dict[str, Caller]:
        """Everybody of this organization, people in fresh sessions: a route may end a session."""
        owner = people.sign_in(self.app, email=self.owner.email, password=self.owner.password)
        viewer = people.sign_in(self.app, email=self.viewer.email, password=self.viewer.password)
        return {"owner": owner, "viewer": viewer, **self.keys}


def make_tenant(app: Flask, *, mark: str) -> Tenant:
    """Return a new organization in which every filler has been."""
    owner = people.register(app, name=f"{mark}-users", organization_name=f"{mark}-organizations")
    viewer = people.join(app, owner.organization_id, role=Role.VIEWER, name=f"{mark}-users-viewer")
    tenant = Tenant(app=app, mark=mark, owner=owner, viewer=viewer)
    for fill in FILLERS:
        fill(tenant)
    return tenant


def fill_identity(tenant: Tenant) -> None:
    owner = tenant.owner
    fields = {"description": tenant.text("projects"), "environments": [tenant.text("projects")]}
    projects = [
        people.make_project(owner, name=tenant.text("projects"), **fields) for _ in range(2)
    ]
    wanted: dict[str, dict[str, Any]] = {
        "personal": {"scopes": sorted(KEY_SCOPES)},
        "service": {"scopes": sorted(SERVICE_SCOPES)},
        "ingest": {"project_id": str(projects[0].id)},
    }
    for kind, form in wanted.items():
        tenant.keys[f"{kind} key"] = people.make_key(
            owner, app=tenant.app, kind=kind, name=tenant.text("api_keys"), **form
        )
    # One that nobody calls with, so that a request may name it without ending a caller.
    spare = people.make_key(
        owner,
        app=tenant.app,
        kind="service",
        name=tenant.text("api_keys"),
        scopes=["projects:read"],
    )
    tenant.ids |= {
        "organization": owner.organization_id,
        "user": owner.user_id,
        "project": projects[0].id,
        "api_key": spare.key_id,
        "email": owner.email,
        "session": owner.session_id,
    }
    keys = [*tenant.keys.values(), spare]
    tenant.listed |= {
        "project": {str(project.id) for project in projects},
        "api_key": {str(key.key_id) for key in keys},
    }


def fill_api_gateway(tenant: Tenant) -> None:
    """Fill calls and an own provider; analytics then sum them."""
    mark = tenant.text("api_requests")
    now = datetime.now(UTC)
    calls = [
        {
            "id": f"{mark}-{place}",
            "started_at": (now - timedelta(days=3, seconds=place)).isoformat(),
            "duration_ms": 812,
            "provider": "openai",
            "request_model": "gpt-4o",
            "usage": {"input_tokens": 2006, "output_tokens": 300},
            "attribution": {"team": mark, "environment": mark},
        }
        for place in range(2)
    ]
    logged = tenant.keys["ingest key"].post(f"{API}/api-gateway/requests", json={"requests": calls})
    assert logged.status_code == 201, logged.text
    with as_platform(tenant.app):
        # Old enough for quarters, hours and days to be closed and summed.
        celery.tasks["api_gateway.compact_rollups"]()
    providers = [_own_provider(tenant) for _ in range(2)]
    tenant.ids |= {"api_request": calls[0]["id"], "api_provider": UUID(providers[0])}
    tenant.listed |= {
        "api_request": {str(call["id"]) for call in calls},
        "api_provider": set(providers),
    }


@contextmanager
def as_platform(app: Flask) -> Iterator[None]:
    """Be where a platform task runs: role dg_system, over all organizations; committed at the end."""
    with app.app_context():
        db.session().info["role"] = "dg_system"
        yield
        db.session.commit()
        db.session.remove()


def _own_provider(tenant: Tenant) -> str:
    mark = tenant.text("api-providers")
    answer = tenant.owner.post(
        f"{API}/api-gateway/providers",
        json={
            "name": f"{mark}-{secrets.token_hex(4)}".lower(),
            "display_name": mark,
            "base_url": f"https://{mark}.example",
            "prices": [{"model": tenant.text("prices"), "rates": {"requests": {"price": "1"}}}],
        },
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def fill_idempotency_keys(tenant: Tenant) -> None:
    answer = tenant.owner.post(
        f"{API}/projects",
        json={"name": tenant.text("projects")[:60], "slug": f"k-{secrets.token_hex(4)}"},
        headers={"Idempotency-Key": tenant.text("idempotency_keys")},
    )
    assert answer.status_code == 201, answer.text
    tenant.listed["project"].add(answer.json["id"])


def fill_seals(tenant: Tenant) -> None:
    """Seal what the others left in the audit log: nothing of it waits when the walk begins."""
    with as_platform(tenant.app):
        celery.tasks["audit.seal_events"]()


# The last one seals what all the others did.
FILLERS: list[Callable[[Tenant], None]] = [
    fill_identity,
    fill_api_gateway,
    fill_idempotency_keys,
    fill_seals,
]
