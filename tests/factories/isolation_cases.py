"""How the isolation walk calls each route. A route without a case fails the walk: add yours here.

A case says where the request names things: `path={"project_id": "project"}` puts `tenant.ids["project"]`
(tests/factories/tenants.py) into the path; `query` likewise. `body` makes the JSON body out of a dictionary of
ids; say `body_names=("project",)` when it uses one. The walk then calls the route as everybody of A with
B's id in each of these places in turn, expects 404 (`foreign`), and compares with an id of nobody.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.factories import people

Ids = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """Where one route names things that may be another organization's."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[Ids], Any] | None = None
    body_names: tuple[str, ...] = ()
    # Of a list: the key of `tenant.listed` that A's owner must be shown, all of it and no more.
    lists: str | None = None
    # The query arguments without which the list is not whole (the others only filter it).
    lists_by: tuple[str, ...] = ()
    # What A's owner is answered for something of B. Another answer than 404 needs a reason beside it.
    foreign: int = 404
    # Query arguments that name nothing.
    extra: Mapping[str, Any] = field(default_factory=dict)


def _project_form(_ids: Ids) -> dict[str, Any]:
    return {"name": "Walked", "slug": people.new_email("w").partition("@")[0].replace(".", "-")}


def _registration(_ids: Ids) -> dict[str, Any]:
    return {
        "email": people.new_email("walker"),
        "password": people.new_password(),
        "name": "Walker",
        "organization_name": "Walk",
    }


def _one_call(_ids: Ids) -> dict[str, Any]:
    return {"provider": "openai", "request_model": "gpt-4o", "started_at": "2020-01-01T00:00:00Z"}


def _provider(_ids: Ids) -> dict[str, Any]:
    return {"name": f"walked-{secrets.token_hex(6)}", "display_name": "Walked"}


NOTHING_NAMED = Case()
PROJECT = {"project_id": "project"}

CASES: dict[str, Case] = {
    "health.show_liveness": NOTHING_NAMED,
    "health.show_readiness": NOTHING_NAMED,
    "health.show_health": NOTHING_NAMED,
    "openapi.show_openapi": NOTHING_NAMED,
    "openapi.show_docs": NOTHING_NAMED,
    "auth.register": Case(body=_registration),
    # 401, as for a person of nobody: signing in tells nothing of whom it knows.
    "auth.login": Case(
        body=lambda ids: {"email": ids["email"], "password": "wrong password"},
        body_names=("email",),
        foreign=401,
    ),
    "auth.refresh": Case(body=lambda _ids: {"refresh_token": "dgr_nobody's"}),
    "auth.show_me": NOTHING_NAMED,
    "auth.logout": NOTHING_NAMED,
    "auth.change_password": Case(
        body=lambda _ids: {"current_password": "wrong password", "new_password": "a new password"}
    ),
    "auth.list_sessions": NOTHING_NAMED,
    "auth.delete_session": Case(path={"session_id": "session"}),
    "auth.delete_sessions": NOTHING_NAMED,
    "auth.login_by_code": Case(body=lambda _ids: {"challenge": "nobody's", "code": "000000"}),
    "auth.show_mfa": NOTHING_NAMED,
    "auth.create_totp": NOTHING_NAMED,
    "auth.confirm_totp": Case(body=lambda _ids: {"code": "000000"}),
    "auth.disable_totp": NOTHING_NAMED,
    "auth.create_recovery_codes": NOTHING_NAMED,
    "auth.show_mfa_policy": NOTHING_NAMED,
    "auth.replace_mfa_policy": Case(body=lambda _ids: {"mfa_required": False}),
    "auth.create_step_up": Case(body=lambda _ids: {"password": "wrong password"}),
    "api_keys.create_api_key": Case(
        body=lambda ids: {"kind": "ingest", "name": "k", "project_id": str(ids["project"])},
        body_names=("project",),
    ),
    "api_keys.list_api_keys": Case(query=PROJECT, lists="api_key"),
    "api_keys.show_api_key": Case(path={"api_key_id": "api_key"}),
    "api_keys.update_api_key": Case(
        path={"api_key_id": "api_key"}, body=lambda _ids: {"name": "Walked"}
    ),
    "api_keys.rotate_api_key": Case(path={"api_key_id": "api_key"}, body=lambda _ids: {}),
    # Whoever holds the text of a key may end it; here it is nobody's.
    "security.create_token_leak": Case(body=lambda _ids: {"token": "dgp_" + "0" * 36}),
    "api_keys.delete_api_key": Case(path={"api_key_id": "api_key"}),
    # A filter that nothing passes answers an empty list, as for an id of nobody.
    "audit.list_events": Case(query={"actor_id": "user", "target_id": "project"}, foreign=200),
    "audit.export_events": Case(
        query={"actor_id": "user", "target_id": "project"}, foreign=200, extra={"format": "ndjson"}
    ),
    "audit.show_head": NOTHING_NAMED,
    "projects.list_projects": Case(lists="project"),
    "projects.create_project": Case(body=_project_form),
    "projects.show_project": Case(path=PROJECT),
    "projects.replace_project": Case(path=PROJECT, body=_project_form),
    "projects.update_project": Case(path=PROJECT, body=_project_form),
    "projects.delete_project": Case(path=PROJECT),
    "api_gateway.log_requests": Case(query=PROJECT, body=_one_call),
    "api_gateway.list_requests": Case(query=PROJECT, lists="api_request", lists_by=("project_id",)),
    "api_gateway.show_request": Case(path={"request_id": "api_request"}, query=PROJECT),
    "api_gateway.list_providers": Case(lists="api_provider", extra={"kind": "own"}),
    "api_gateway.create_provider": Case(body=_provider),
    "api_gateway.show_provider": Case(path={"provider_id": "api_provider"}),
    "api_gateway.list_models": Case(path={"provider_id": "api_provider"}),
    "api_gateway.show_cost": Case(query=PROJECT),
    "api_gateway.show_latency": Case(query=PROJECT),
}

# Tenant tasks: wire name -> the arguments, made of ids. Called in A's organization with B's ids,
# each must raise. A tenant task without a line here fails the proof.
TASKS: dict[str, Callable[[Ids], dict[str, str]]] = {}

# Unique indexes that do not begin with organization_id, and why that tells nothing of others.
# (The primary key of one uuid column `id`, made by the application, needs no line.)
UNIQUE_ACROSS_TENANTS: dict[str, str] = {
    "uq_api_keys_secret_sha256": "looked up before the tenant is known; 178 random bits",
    "uq_refresh_tokens_token_sha256": "looked up before the tenant is known; 256 random bits",
    "uq_api_models_provider_id_name": "a provider is one organization's by its composite key, and"
    " no route takes the id of a provider to write a model",
    "pk_api_requests": "(project_id, started_at, id): a project is one organization's",
    "pk_api_rollup_groups": "a number that the database alone makes (GENERATED ALWAYS)",
}

# Tenant tables in which there may be no row of B, and why.
NO_WORK_YET = "no route of an organization asks for work behind the request yet"
WITHOUT_ROWS: dict[str, str] = {
    "public.outbox": NO_WORK_YET,
    "public.task_runs": NO_WORK_YET,
    "public.dead_tasks": NO_WORK_YET,
    "public.api_rollup_deltas": "taken into quarters by the compaction",
    "public.api_model_aliases": "no route writes them yet",
    "public.data_keys": "no field of any feature is encrypted yet",
}
