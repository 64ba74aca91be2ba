"""API keys: who makes which, what they may do, and when they stop."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from app.auth.authenticator import authenticate
from app.auth.key_cache import KEYS
from app.auth.key_format import is_well_formed
from app.kit.ids import new_id
from app.kit.tenancy import leave_organization
from app.organizations.roles import Role
from app.projects.access import project_of_request
from tests.factories import people

KEYS_PATH = "/api/v1/api-keys"
ME = "/api/v1/auth/me"
PROJECTS = "/api/v1/projects"
KINDS = ("personal", "ingest", "service")


@pytest.fixture(autouse=True)
def nothing_cached():
    KEYS.clear()
    yield
    KEYS.clear()


@pytest.fixture
def create(project):
    def ask(person, kind, /, **fields):
        defaults = {
            "ingest": {"project_id": str(project.id)},
            "service": {"scopes": ["analytics:read"]},
            "personal": {},
        }
        form = {"kind": kind, "name": f"{kind} key", **defaults[kind], **fields}
        return person.post(KEYS_PATH, json=form)

    return ask


def listed_ids(person, **arguments):
    answer = person.get(KEYS_PATH, query_string=arguments)
    assert answer.status_code == 200, answer.text
    return {item["id"] for item in answer.json["items"]}


class TestCreateApiKey:
    @pytest.mark.parametrize("kind", ["ingest", "service", "personal"])
    def test_shows_the_secret_once(self, alice, create, as_system, kind):
        answer = create(alice, kind)

        assert answer.status_code == 201
        key = answer.json["key"]
        assert is_well_formed(key)
        assert answer.json["secret"] == {
            "has_value": True,
            "prefix": key[:8],
            "last4": key[-4:],
        }
        assert answer.headers["Location"] == f"{KEYS_PATH}/{answer.json['id']}"
        assert key not in alice.get(KEYS_PATH).text
        dump = "SELECT k::text FROM api_keys k WHERE id = :id"
        assert key not in as_system(dump, id=answer.json["id"])[0][0]

    def test_lives_ninety_days_unless_told_otherwise(self, alice, create):
        expires_at = datetime.fromisoformat(create(alice, "ingest").json["expires_at"])

        lifetime = expires_at - datetime.now(UTC)
        assert timedelta(days=89, hours=23) < lifetime <= timedelta(days=90)

    def test_gives_a_personal_key_what_its_person_may_do(self, bob, create):
        scopes = create(bob, "personal").json["scopes"]

        assert "projects:read" in scopes
        assert "projects:write" not in scopes
        assert "account:write" not in scopes

    @pytest.mark.parametrize(
        ("role", "kinds"),
        [
            (Role.VIEWER, {"personal"}),
            (Role.MEMBER, {"personal", "ingest"}),
            (Role.ADMIN, {"personal", "ingest", "service"}),
            (Role.OWNER, {"personal", "ingest", "service"}),
        ],
    )
    def test_is_for_whom_the_kind_is(self, app, alice, create, role, kinds):
        person = people.join(app, alice.organization_id, role=role)

        statuses = {kind: create(person, kind).status_code for kind in KINDS}

        assert statuses == {kind: 201 if kind in kinds else 403 for kind in KINDS}

    def test_gives_no_scope_that_one_does_not_hold(self, bob, create):
        answer = create(bob, "personal", scopes=["projects:read", "projects:write"])

        assert answer.status_code == 403
        assert "projects:write" in answer.json["detail"]

    @pytest.mark.parametrize(
        ("kind", "fields", "pointer"),
        [
            ("ingest", {"project_id": None}, "/project_id"),
            ("ingest", {"scopes": ["projects:read"]}, "/scopes"),
            ("ingest", {"scopes": []}, "/scopes"),
            ("service", {"project_id": str(new_id())}, "/project_id"),
            ("personal", {"project_id": str(new_id())}, "/project_id"),
            ("service", {"scopes": None}, "/scopes"),
            ("service", {"scopes": []}, "/scopes"),
            ("service", {"scopes": ["organization:write"]}, "/scopes"),
            ("service", {"scopes": ["account:read"]}, "/scopes"),
            ("personal", {"scopes": ["account:write"]}, "/scopes"),
            ("personal", {"scopes": ["everything"]}, "/scopes"),
            ("personal", {"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
            ("personal", {"expires_at": "9999-01-01T00:00:00Z"}, "/expires_at"),
            ("personal", {"expires_at": "2030-01-01T00:00:00"}, "/expires_at"),
            ("personal", {"name": ""}, "/name"),
            ("personal", {"kind": "root"}, "/kind"),
            ("personal", {"role": "owner"}, "/role"),
        ],
    )
    def test_names_the_broken_rule(self, alice, create, kind, fields, pointer):
        answer = create(alice, kind, **fields)

        assert answer.status_code == 422
        assert pointer in [fault["pointer"] for fault in answer.json["errors"]]

    def test_hides_the_projects_of_others(self, create, stranger):
        assert create(stranger, "ingest").status_code == 404
        assert create(stranger, "ingest", project_id=str(new_id())).status_code == 404

    def test_is_not_for_a_deleted_project(self, alice, create, project):
        alice.delete(f"{PROJECTS}/{project.id}")

        assert create(alice, "ingest").status_code == 404

    @pytest.mark.parametrize("kind", ["personal", "service", "ingest"])
    def test_is_not_for_keys_so_that_a_stolen_one_makes_no_second(self, app, alice, create, kind):
        made = create(alice, kind).json
        key = people.Caller(app.test_client(), made["key"])

        assert create(key, "personal").status_code == 403


class TestListApiKeys:
    @pytest.fixture
    def made(self, alice, bob, carol, create):
        return {
            "alice": create(alice, "personal").json["id"],
            "bob": create(bob, "personal").json["id"],
            "ingest": create(carol, "ingest").json["id"],
            "service": create(alice, "service").json["id"],
        }

    def test_shows_each_what_he_may_see(self, alice, bob, carol, admin, made):
        assert listed_ids(alice) == set(made.values())
        assert listed_ids(admin) == set(made.values())
        assert listed_ids(carol) == {made["ingest"]}
        assert listed_ids(bob) == {made["bob"]}

    def test_filters_by_kind_and_project(self, alice, made, project, make_project):
        other = make_project()

        assert listed_ids(alice, kind="service") == {made["service"]}
        assert listed_ids(alice, project_id=project.id) == {made["ingest"]}
        assert listed_ids(alice, project_id=other.id) == set()

    def test_keeps_the_revoked_apart(self, alice, made):
        alice.delete(f"{KEYS_PATH}/{made['service']}")

        assert made["service"] not in listed_ids(alice)
        assert listed_ids(alice, revoked="true") == {made["service"]}

    def test_pages_from_the_newest_to_the_oldest(self, alice, made):
        first = alice.get(KEYS_PATH, query_string={"limit": 3}).json
        second = alice.get(
            KEYS_PATH, query_string={"limit": 3, "cursor": first["next_cursor"]}
        ).json

        ids = [item["id"] for item in first["items"] + second["items"]]
        assert ids == sorted(made.values(), reverse=True)
        assert second["next_cursor"] is None

    def test_hides_the_projects_of_others(self, stranger, project):
        assert stranger.get(KEYS_PATH, query_string={"project_id": project.id}).status_code == 404

    @pytest.mark.parametrize(
        "arguments",
        [{"kind": "root"}, {"project_id": "x"}, {"limit": 0}, {"cursor": "x"}, {"a": 1}],
    )
    def test_refuses_what_it_does_not_know(self, alice, arguments):
        assert alice.get(KEYS_PATH, query_string=arguments).status_code == 422


class TestDeleteApiKey:
    def test_ends_the_key_at_once_in_this_process(self, alice, ingest_key):
        assert ingest_key.get(PROJECTS).status_code == 403

        assert alice.delete(f"{KEYS_PATH}/{ingest_key.key_id}").status_code == 204

        assert ingest_key.get(PROJECTS).status_code == 401

    def test_ends_the_key_elsewhere_when_its_cache_does(self, app, alice, ingest_key, as_system):
        assert ingest_key.get(PROJECTS).status_code == 403
        as_system("UPDATE api_keys SET revoked_at = now() WHERE id = :id", id=ingest_key.key_id)

        assert ingest_key.get(PROJECTS).status_code == 403
        time.sleep(2.05)

        assert ingest_key.get(PROJECTS).status_code == 401

    def test_is_done_once(self, alice, ingest_key):
        alice.delete(f"{KEYS_PATH}/{ingest_key.key_id}")

        assert alice.delete(f"{KEYS_PATH}/{ingest_key.key_id}").status_code == 404

    def test_is_for_ones_own_key(self, bob, create):
        key_id = create(bob, "personal").json["id"]

        assert bob.delete(f"{KEYS_PATH}/{key_id}").status_code == 204

    def test_is_for_ingest_keys_when_one_writes_projects(self, bob, carol, ingest_key):
        assert bob.delete(f"{KEYS_PATH}/{ingest_key.key_id}").status_code == 403
        assert carol.delete(f"{KEYS_PATH}/{ingest_key.key_id}").status_code == 204

    def test_is_for_every_key_when_one_is_admin(self, alice, carol, admin, create):
        service = create(alice, "service").json["id"]
        personal = create(alice, "personal").json["id"]

        for key_id in (service, personal):
            answer = carol.delete(f"{KEYS_PATH}/{key_id}")
            assert answer.status_code == 403
            assert "api_keys:write" in answer.json["detail"]
            assert admin.delete(f"{KEYS_PATH}/{key_id}").status_code == 204

    def test_hides_the_keys_of_others(self, stranger, ingest_key):
        assert stranger.delete(f"{KEYS_PATH}/{ingest_key.key_id}").status_code == 404
        assert stranger.delete(f"{KEYS_PATH}/{new_id()}").status_code == 404
        assert ingest_key.get(PROJECTS).status_code == 403


class TestAuthenticateByKey:
    def test_lets_a_personal_key_do_what_its_person_may(self, app, carol):
        key = people.make_key(carol, app=app, kind="personal")

        assert key.post(PROJECTS, json={"name": "Made by key"}).status_code == 201

    def test_lets_a_key_do_no_more_than_its_scopes(self, app, carol):
        key = people.make_key(carol, app=app, kind="personal", scopes=["projects:read"])

        assert key.get(PROJECTS).status_code == 200
        assert key.post(PROJECTS, json={"name": "Made by key"}).status_code == 403

    def test_lets_a_key_do_no_more_than_its_person_may_now(self, app, carol, as_system):
        key = people.make_key(carol, app=app, kind="personal")
        as_system("UPDATE memberships SET role = 'viewer' WHERE user_id = :id", id=carol.user_id)

        assert key.get(PROJECTS).status_code == 200
        assert key.post(PROJECTS, json={"name": "Made by key"}).status_code == 403

    def test_keeps_a_service_key_when_who_made_it_leaves(self, app, admin, alice, as_system):
        key = people.make_key(admin, app=app, kind="service", scopes=["projects:read"])
        as_system("DELETE FROM memberships WHERE user_id = :id", id=admin.user_id)

        assert key.get(PROJECTS).status_code == 200

    def test_lets_an_ingest_key_do_nothing_else(self, app, ingest_key):
        answer = ingest_key.get(PROJECTS)

        assert answer.status_code == 403
        assert answer.json["code"] == "missing_scope"

    def test_lets_no_row_widen_an_ingest_key(self, ingest_key, as_system):
        as_system(
            "UPDATE api_keys SET scopes = '{projects:read,api_requests:write}' WHERE id = :id",
            id=ingest_key.key_id,
        )

        assert ingest_key.get(PROJECTS).status_code == 403

    @pytest.mark.parametrize(
        "deed",
        [
            "UPDATE api_keys SET revoked_at = now() WHERE user_id = :user",
            "UPDATE api_keys SET expires_at = now() WHERE user_id = :user",
            "UPDATE users SET disabled_at = now() WHERE id = :user",
            "DELETE FROM memberships WHERE user_id = :user",
            "UPDATE organizations SET deleted_at = now() WHERE id = :organization",
        ],
    )
    def test_ends_with_what_a_key_stands_on(self, app, carol, as_system, deed):
        key = people.make_key(carol, app=app, kind="personal")
        values = {"user": carol.user_id, "organization": carol.organization_id}
        as_system(deed, **{name: value for name, value in values.items() if f":{name}" in deed})

        answer = key.get(PROJECTS)

        assert answer.status_code == 401
        assert answer.json["code"] == "invalid_api_key"

    def test_ends_with_its_project(self, alice, project, ingest_key):
        assert ingest_key.get(PROJECTS).status_code == 403

        alice.delete(f"{PROJECTS}/{project.id}")

        assert ingest_key.get(PROJECTS).status_code == 401

    def test_counts_the_expiry_of_a_cached_key(self, app, ingest_key, as_system):
        soon = "UPDATE api_keys SET expires_at = now() + interval '1 s' WHERE id = :id"
        as_system(soon, id=ingest_key.key_id)
        assert ingest_key.get(PROJECTS).status_code == 403
        time.sleep(1.05)

        assert ingest_key.get(PROJECTS).status_code == 401

    @pytest.mark.parametrize(
        "text",
        [
            "dgi_",
            "dgi_x",
            "dgi_" + "0" * 36,
            "dgp_" + "0" * 30 + "2zHCsG",
            "dgi_" + "A" * 1_000_000,
        ],
        ids=lambda text: f"{text[:6]}-{len(text)}",
    )
    def test_asks_no_database_about_a_wrong_checksum(self, anonymous, monkeypatch, text):
        def unexpected(**_arguments):
            raise AssertionError("asked the database")

        monkeypatch.setattr("app.auth.authenticator.find_key_identity", unexpected)

        answer = anonymous.get(PROJECTS, headers={"Authorization": f"Bearer {text}"})

        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"]

    def test_refuses_a_well_formed_key_of_nobody(self, anonymous):
        key = "dgi_" + "0" * 30 + "2zHCsG"

        answer = anonymous.get(PROJECTS, headers={"Authorization": f"Bearer {key}"})

        assert answer.status_code == 401

    def test_notes_its_use_at_most_once_a_minute(self, app, ingest_key, as_system):
        def last_used_at():
            KEYS.clear()
            ingest_key.get(PROJECTS)
            read = "SELECT last_used_at FROM api_keys WHERE id = :id"
            return as_system(read, id=ingest_key.key_id)[0][0]

        first = last_used_at()
        assert first is not None
        assert last_used_at() == first

        as_system(
            "UPDATE api_keys SET last_used_at = last_used_at - interval '61 s' WHERE id = :id",
            id=ingest_key.key_id,
        )
        assert last_used_at() > first

    def test_never_waits_to_note_its_use(self, app, ingest_key, database_url):
        from sqlalchemy import create_engine, text

        engine = create_engine(database_url)
        with engine.begin() as other:
            lock = text("SELECT FROM api_keys WHERE id = :id FOR UPDATE")
            other.execute(lock, {"id": ingest_key.key_id})

            assert ingest_key.get(PROJECTS).status_code == 403
        engine.dispose()

    def test_costs_no_database_and_little_time_when_known(
        self, app, ingest_key, project, monkeypatch
    ):
        ingest_key.get(PROJECTS)
        monkeypatch.setattr("app.auth.authenticator.find_key_identity", None)
        monkeypatch.setattr("app.projects.access.find_project_name", None)
        times = []

        for _ in range(200):
            with app.test_request_context():
                begun = time.perf_counter()
                authenticate(ingest_key.token)
                known = project_of_request()
                times.append(time.perf_counter() - begun)
                leave_organization()

        assert known.id == project.id
        assert min(times) < 100e-6
