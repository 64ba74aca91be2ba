import json

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from app.audit.context import acting_as, operator, system
from app.audit.models import AuditLog
from app.audit.service import changes, record
from app.extensions import db
from app.kit.tenancy import organization_scope

PROJECTS = "/api/v1/projects"


@pytest.fixture
def inside(app):
    """Be in the organization of a person, without a request."""

    def enter(person):
        app_context = app.app_context()
        scope = organization_scope(person.organization_id)
        app_context.__enter__()
        scope.__enter__()
        opened.extend([app_context, scope])

    opened = []
    yield enter
    for each in reversed(opened):
        each.__exit__(None, None, None)


def record_something(**fields):
    wanted = {"event": "project.created", "target_kind": "project", "target_id": "1"}
    record(**{**wanted, "target_label": "Shop", **fields})


def last_row():
    return db.session.scalars(select(AuditLog).order_by(AuditLog.id.desc()).limit(1)).one()


class TestRecord:
    def test_says_who_did_what_to_what_from_where(self, alice, as_system):
        answer = alice.post(PROJECTS, json={"name": "Shop"}, headers={"X-Request-Id": "request-42"})

        read = (
            "SELECT event, actor_kind, actor_id, actor_label, target_kind, target_id, target_label,"
            " host(ip) AS ip, request_id, before, after FROM audit_logs"
            " WHERE organization_id = :id ORDER BY id DESC LIMIT 1"
        )
        (row,) = as_system(read, id=alice.organization_id)
        after = json.loads(row.after)
        assert row[:6] == (
            "project.created", "user", alice.user_id, alice.email, "project", answer.json["id"],
        )  # fmt: skip
        assert (row.target_label, row.ip, row.request_id) == ("Shop", "127.0.0.1", "request-42")
        assert row.before is None
        assert after["slug"] == "shop"

    def test_names_the_key_that_did_it(self, app, alice, as_system):
        from tests.factories import people

        key = people.make_key(alice, app=app, kind="personal")
        key.post(PROJECTS, json={"name": "Shop"})

        read = (
            "SELECT actor_kind, actor_id FROM audit_logs"
            " WHERE organization_id = :id ORDER BY id DESC LIMIT 1"
        )
        assert as_system(read, id=alice.organization_id) == [("api_key", key.key_id)]

    def test_keeps_only_what_changed(self, alice, project, as_system):
        alice.patch(f"{PROJECTS}/{project.id}", json={"name": "New", "description": ""})

        read = (
            "SELECT before, after FROM audit_logs"
            " WHERE organization_id = :id ORDER BY id DESC LIMIT 1"
        )
        (row,) = as_system(read, id=alice.organization_id)
        assert row.before == f'{{"name":"{project.name}"}}'
        assert row.after == '{"name":"New"}'

    def test_goes_with_its_deed(self, alice, as_system):
        count = "SELECT count(*) FROM audit_logs WHERE organization_id = :id"
        alice.post(PROJECTS, json={"name": "Shop"})
        before = as_system(count, id=alice.organization_id)

        assert alice.post(PROJECTS, json={"name": "Shop"}).status_code == 409

        assert as_system(count, id=alice.organization_id) == before

    @pytest.mark.parametrize("doer", [operator("flask command"), system("retention")])
    def test_names_jobs_and_operators(self, inside, alice, doer):
        inside(alice)

        with acting_as(doer):
            record_something()
        db.session.flush()

        assert (last_row().actor_kind, last_row().actor_label) == (doer.kind, doer.label)

    def test_writes_no_secret(self, inside, alice):
        inside(alice)

        with acting_as(system("test")):
            record_something(after={"api_key": "dgi_secret", "name": "Shop"})
        db.session.flush()

        assert last_row().after == '{"api_key":"[redacted]","name":"Shop"}'

    def test_needs_somebody_who_did_it(self, inside, alice):
        inside(alice)

        with pytest.raises(RuntimeError, match="nobody is named"):
            record_something()

    def test_needs_an_event_of_the_catalogue(self, inside, alice):
        inside(alice)

        with acting_as(system("test")), pytest.raises(ValueError, match=r"made\.up"):
            record_something(event="made.up")


class TestAuditLog:
    @pytest.mark.parametrize(
        "sql",
        ["UPDATE audit_logs SET event = 'x'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"],
    )
    def test_is_changed_by_no_request(self, inside, alice, sql):
        inside(alice)

        with pytest.raises(ProgrammingError, match="permission denied"):
            db.session.execute(text(sql))

    @pytest.mark.parametrize(
        "sql",
        ["UPDATE audit_logs SET event = 'x'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"],
    )
    def test_is_changed_by_no_superuser(self, app, alice, database_url, sql):
        from sqlalchemy import create_engine

        engine = create_engine(database_url)
        with (
            engine.connect() as connection,
            pytest.raises(DBAPIError, match="audit_logs is append-only"),
        ):
            connection.execute(text(sql))
        engine.dispose()

    def test_takes_no_row_of_others(self, inside, alice, stranger):
        inside(alice)

        with pytest.raises(ProgrammingError, match="row-level security"):
            db.session.execute(
                text(
                    "INSERT INTO audit_logs (id, organization_id, occurred_at, event, actor_kind,"
                    " actor_label, target_kind, target_id, target_label)"
                    " VALUES (gen_random_uuid(), :id, now(), 'x', 'system', 'x', 'x', 'x', 'x')"
                ),
                {"id": stranger.organization_id},
            )


class TestChanges:
    def test_keeps_what_differs(self):
        assert changes(before={"a": 1, "b": 2}, after={"a": 1, "b": 3, "c": 4}) == (
            {"b": 2, "c": None},
            {"b": 3, "c": 4},
        )
