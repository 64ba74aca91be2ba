"""The proof that no organization reaches another one's rows, in six parts (platform.md section 3).

1. the database's catalogue; 2. a walk over every route; 3. lists and sums; 4. tasks; 5. what lies
beside the database; 6. walls taken down, which the proof must notice. A new table, route or task
joins by itself, and fails here until it is told how to be tried: tests/factories/tenants.py and
isolation_cases.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Connection, create_engine, text

from app import tasks
from app.api import API
from app.extensions import celery
from app.kit.endpoint import REGISTRY
from app.kit.jobs import TransactionalTask
from app.kit.tenancy import organization_scope
from app.projects import queries as project_queries
from app.projects.models import Project
from tests.factories import walls
from tests.factories.isolation_cases import CASES, TASKS, UNIQUE_ACROSS_TENANTS, WITHOUT_ROWS
from tests.factories.people import Caller
from tests.factories.tenants import SENTINEL, Tenant, make_tenant
from tests.factories.walk import (
    assert_silent,
    call,
    foreign_rows,
    listing,
    readable_relations,
    rows_of,
    walk,
)

LISTS = sorted(name for name, case in CASES.items() if case.lists)
# Importing the API declared every route.
GETS = sorted(name for name, spec in REGISTRY.endpoints.items() if spec.method == "GET")


def pair_of_tenants(app: Flask) -> tuple[Tenant, Tenant]:
    """Return A, who calls, and B, of whom A may notice nothing."""
    return make_tenant(app, mark="ordinary-a"), make_tenant(app, mark=SENTINEL)


@pytest.fixture(scope="module")
def tenants(app):
    return pair_of_tenants(app)


@pytest.fixture(scope="module")
def quiet_tenants(app):
    """Two more, whom the walk does not touch: their lists stay as they were filled."""
    return pair_of_tenants(app)


@pytest.fixture
def database(app, database_url) -> Iterator[Connection]:
    """The database as its superuser sees it, past every wall; nothing done here stays."""
    engine = create_engine(database_url)
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()


class TestCatalogue:
    """1. What the database itself says of every table."""

    @pytest.mark.parametrize("check", walls.CHECKS, ids=lambda check: check.__name__)
    def test_has_every_wall_in_its_place(self, database, check):
        assert check(database) == []

    def test_has_a_guard_view_before_every_time_series(self, database):
        assert walls.unguarded_measurements(database, internal=()) == []

    def test_has_no_unique_index_across_organizations(self, database):
        allowed = UNIQUE_ACROSS_TENANTS

        assert walls.unique_indexes_across(database, allowed=allowed) == []

    def test_is_looked_at(self, database):
        public = set(walls.tenant_tables(database, schema="public"))

        assert {"projects", "api_keys", "sessions", "audit_logs", "memberships"} <= public
        assert "api_requests" in walls.tenant_tables(database, schema="measurements")


class TestWalk:
    """2. Every route, as everybody of A, with B's ids in path, query and body."""

    def test_has_a_case_for_every_route(self):
        assert set(CASES) == set(REGISTRY.endpoints), "add or remove cases in isolation_cases.py"

    def test_finds_a_row_of_b_in_every_table(self, database, tenants):
        _, b = tenants

        empty = {table for table, (count, _) in rows_of(database, b).items() if count == 0}

        assert empty <= set(WITHOUT_ROWS), "fill them in tenants.py, or say why not"

    @pytest.mark.parametrize("name", sorted(CASES))
    def test_reaches_nothing_of_b(self, app, database, tenants, name):
        a, b = tenants
        before = rows_of(database, b)

        walk(app, name, a, b)

        assert rows_of(database, b) == before

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer nonsense", "Basic YTpi"])
    def test_lets_nobody_in_without_a_credential(self, app, tenants, header):
        a, _ = tenants
        walled = [name for name, spec in REGISTRY.endpoints.items() if spec.public is None]

        for name in walled:
            anonymous = Anonymous(app, header)
            answer = call(app, REGISTRY.endpoints[name], CASES[name], anonymous, own=a.ids)

            assert answer.status_code == 401, name
            assert answer.headers["WWW-Authenticate"].startswith("Bearer"), name
            assert answer.mimetype == "application/problem+json", name


class TestLists:
    """3. Lists and sums show A's own, all of it, and nothing else."""

    @pytest.mark.parametrize("name", LISTS)
    def test_show_all_of_ones_own_and_nothing_else(self, app, quiet_tenants, name):
        for tenant in quiet_tenants:
            case = listing(CASES[name])
            answer = call(app, REGISTRY.endpoints[name], case, tenant.owner, own=tenant.ids)

            shown = {str(item["id"]) for item in answer.json["items"]}
            assert shown == tenant.listed[CASES[name].lists]

    @pytest.mark.parametrize("name", GETS)
    def test_hold_no_word_of_b(self, app, quiet_tenants, name):
        a, _ = quiet_tenants

        for who, caller in a.callers().items():
            answer = call(app, REGISTRY.endpoints[name], CASES[name], caller, own=a.ids)

            assert answer.status_code in {200, 403}, f"{who}: {answer.text}"
            assert_silent(answer)

    def test_of_every_table_and_view_hold_only_ones_own(self, database, tenants):
        a, _ = tenants

        for table in readable_relations(database):
            assert foreign_rows(database, table, a) == 0, table


class TestTasks:
    """4. A task of A's on an id of B's raises."""

    def test_have_a_case_each(self):
        assert tasks.MODULES
        declared = {
            name
            for name, task in celery.tasks.items()
            if isinstance(task, TransactionalTask)
            and not task.is_platform
            # The tasks of other tests are on the same register.
            and task.__module__.startswith("app.")
        }

        assert set(TASKS) == declared, "add or remove lines in isolation_cases.py"

    @pytest.mark.parametrize("name", sorted(TASKS))
    def test_raise_on_ids_of_b(self, app, database, tenants, name):
        a, b = tenants
        before = rows_of(database, b)

        with (
            app.app_context(),
            organization_scope(a.owner.organization_id),
            pytest.raises(Exception),  # noqa: B017 - whatever it says, it must not go on
        ):
            celery.tasks[name](**TASKS[name](b.ids))

        assert rows_of(database, b) == before


class TestSideStores:
    """5. What lies beside the tables: cursors, and what a process remembers of a key."""

    @pytest.mark.parametrize("name", LISTS)
    def test_refuse_a_cursor_of_others(self, app, quiet_tenants, name):
        a, b = quiet_tenants
        spec, case = REGISTRY.endpoints[name], listing(CASES[name])
        own = call(app, spec, case, a.owner, own=a.ids, query={"limit": 1})
        cursor = {"limit": 1, "cursor": own.json["next_cursor"]}
        assert call(app, spec, case, a.owner, own=a.ids, query=cursor).status_code == 200

        answer = call(app, spec, case, b.owner, own=b.ids, query=cursor)

        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "/cursor"

    def test_renew_a_session_in_its_own_organization_whoever_sends_the_token(self, quiet_tenants):
        a, b = quiet_tenants
        token = a.callers()["owner"].refresh_token

        answer = b.owner.post(f"{API}/auth/refresh", json={"refresh_token": token})

        renewed = Caller(a.app.test_client(), answer.json["access_token"])
        organization = renewed.get(f"{API}/auth/me").json["organization"]
        assert organization["id"] == str(a.owner.organization_id)
        assert_silent(answer)

    def test_remember_each_key_for_its_own_organization(self, app, quiet_tenants):
        for tenant in (*quiet_tenants, *quiet_tenants):
            answer = tenant.keys["personal key"].get(f"{API}/auth/me")

            assert answer.json["organization"]["id"] == str(tenant.owner.organization_id)


DROPPED_WALLS = [
    ("ALTER TABLE projects DISABLE ROW LEVEL SECURITY", walls.unsecured_tables),
    ("ALTER TABLE users NO FORCE ROW LEVEL SECURITY", walls.unsecured_tables),
    ("DROP POLICY tenant_reads ON api_keys", walls.open_policies),
    ("ALTER POLICY tenant_reads ON projects USING (true)", walls.open_policies),
    ("CREATE POLICY wide ON sessions FOR DELETE TO PUBLIC USING (true)", walls.open_policies),
    ("GRANT UPDATE ON audit_logs TO dg_app", walls.open_policies),
    ("GRANT SELECT ON measurements.api_requests TO dg_app", walls.open_measurements),
    ("CREATE TABLE loose (organization_id uuid)", walls.unsecured_tables),
    (
        "CREATE TABLE loose (organization_id uuid, project_id uuid REFERENCES projects (id))",
        walls.foreign_keys_across,
    ),
]


class TestMutation:
    """6. A wall taken down is noticed."""

    @pytest.mark.parametrize(("deed", "check"), DROPPED_WALLS, ids=lambda part: str(part)[:40])
    def test_of_the_catalogue_is_noticed(self, database, deed, check):
        database.execute(text(deed))

        assert check(database) != []

    def test_of_an_index_is_noticed(self, database):
        database.execute(text("CREATE UNIQUE INDEX odd ON projects (id, organization_id)"))

        assert walls.unique_indexes_across(database, allowed=UNIQUE_ACROSS_TENANTS) != []

    def test_of_a_guard_view_is_noticed(self, database):
        database.execute(text("ALTER VIEW api_requests RESET (security_barrier)"))

        assert walls.unguarded_measurements(database, internal=()) != []

    def test_of_a_policy_that_only_looks_right_is_noticed(self, database, tenants):
        a, _ = tenants
        rule = "organization_id = current_setting('app.organization_id')::uuid OR true"
        database.execute(text(f"ALTER POLICY tenant_reads ON projects USING ({rule})"))
        assert walls.open_policies(database) == []

        assert foreign_rows(database, "projects", a) > 0

    def test_of_a_forgotten_where_is_held_by_the_wall(self, app, tenants, forgotten_where):
        walk(app, "projects.show_project", *tenants)

    def test_of_both_is_noticed_by_the_walk(self, app, tenants, forgotten_where, open_projects):
        with pytest.raises(AssertionError, match=SENTINEL.lower()):
            walk(app, "projects.show_project", *tenants)

    @pytest.fixture
    def forgotten_where(self, monkeypatch):
        def only_the_id(_organization_id, project_id):
            return [Project.id == project_id]

        monkeypatch.setattr(project_queries, "_living", only_the_id)

    @pytest.fixture
    def open_projects(self, app, database_url):
        own = "organization_id = current_setting('app.organization_id')::uuid"
        engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("SET lock_timeout = '10s'"))
            connection.execute(text("ALTER POLICY tenant_reads ON projects USING (true)"))
            yield
            connection.execute(text(f"ALTER POLICY tenant_reads ON projects USING ({own})"))
        engine.dispose()


class Anonymous:
    """Somebody with a header that proves nothing."""

    def __init__(self, app: Flask, header: str) -> None:
        self._client = app.test_client()
        self._headers = {"Authorization": header} if header else {}

    def call(self, method, path, **arguments):
        return self._client.open(path, method=method, headers=self._headers, **arguments)
