"""What becomes of a key after it was made: shown, changed, rotated, taken from some places only, leaked."""

from datetime import UTC, datetime, timedelta

import pytest

from app.auth.key_cache import KEYS
from app.auth.key_format import is_well_formed, new_key
from app.kit.ids import new_id
from tests.factories import people

KEYS_PATH = "/api/v1/api-keys"
LEAKS = "/api/v1/security/token-leaks"
ME = "/api/v1/auth/me"
SERVICE = {"kind": "service", "scopes": ["projects:read"]}


@pytest.fixture(autouse=True)
def nothing_cached():
    KEYS.clear()
    yield
    KEYS.clear()


@pytest.fixture
def service_key(app, alice):
    return people.make_key(alice, app=app, **SERVICE)


@pytest.fixture
def personal_key(app, carol):
    """A key of Carol, a member."""
    return people.make_key(carol, app=app, kind="personal")


@pytest.fixture
def events(alice, as_system):
    def read():
        sql = "SELECT event FROM audit_logs WHERE organization_id = :id ORDER BY id"
        return [event for (event,) in as_system(sql, id=alice.organization_id)]

    return read


def rotate(person, key, **fields):
    return person.post(f"{KEYS_PATH}/{key.key_id}/rotate", json=fields)


def moment(text):
    return datetime.fromisoformat(text)


class TestShowApiKey:
    def test_shows_it_without_its_secret(self, alice, service_key):
        answer = alice.get(f"{KEYS_PATH}/{service_key.key_id}")

        assert answer.status_code == 200
        assert answer.json["scopes"] == ["projects:read"]
        assert answer.json["allowed_ips"] == []
        assert service_key.token not in answer.text

    def test_shows_when_it_was_last_used(self, alice, service_key):
        service_key.get("/api/v1/projects")

        assert alice.get(f"{KEYS_PATH}/{service_key.key_id}").json["last_used_at"] is not None

    def test_shows_a_revoked_one(self, alice, service_key):
        alice.delete(f"{KEYS_PATH}/{service_key.key_id}")

        assert alice.get(f"{KEYS_PATH}/{service_key.key_id}").json["revoked_at"] is not None

    def test_is_for_whom_the_list_shows_it(self, alice, admin, bob, carol, personal_key):
        path = f"{KEYS_PATH}/{personal_key.key_id}"

        statuses = [person.get(path).status_code for person in (carol, admin, alice, bob)]

        assert statuses == [200, 200, 200, 403]

    def test_hides_the_keys_of_others(self, stranger, service_key):
        assert stranger.get(f"{KEYS_PATH}/{service_key.key_id}").status_code == 404
        assert stranger.get(f"{KEYS_PATH}/{new_id()}").status_code == 404


class TestRotateApiKey:
    @pytest.mark.parametrize("kind", ["ingest", "service", "personal"])
    def test_makes_a_key_like_it(self, app, alice, project, kind):
        fields = {"ingest": {"project_id": str(project.id)}, "service": SERVICE, "personal": {}}
        old = people.make_key(
            alice, app=app, **{"kind": kind, "allowed_ips": ["127.0.0.0/8"], **fields[kind]}
        )
        before = alice.get(f"{KEYS_PATH}/{old.key_id}").json

        answer = rotate(alice, old)

        assert answer.status_code == 201
        assert is_well_formed(answer.json["key"])
        assert answer.json["key"] != old.token
        assert answer.headers["Location"] == f"{KEYS_PATH}/{answer.json['id']}"
        assert answer.headers["Cache-Control"] == "no-store"
        for name in ("kind", "name", "scopes", "project_id", "user_id", "allowed_ips"):
            assert answer.json[name] == before[name]

    def test_lets_both_work_for_a_day(self, app, alice, service_key):
        answer = rotate(alice, service_key)

        new = people.Caller(app.test_client(), answer.json["key"])
        assert new.get("/api/v1/projects").status_code == 200
        assert service_key.get("/api/v1/projects").status_code == 200
        old = alice.get(f"{KEYS_PATH}/{service_key.key_id}").json
        assert old["rotated_to"] == answer.json["id"]
        left = moment(old["expires_at"]) - datetime.now(UTC)
        assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)

    def test_gives_the_new_one_as_long_as_the_old_one_was_given(self, alice, service_key):
        lifetime = moment(rotate(alice, service_key).json["expires_at"]) - datetime.now(UTC)

        assert timedelta(days=89, hours=23) < lifetime <= timedelta(days=90)

    def test_ends_the_old_one_at_once_when_told_so(self, alice, service_key):
        assert service_key.get("/api/v1/projects").status_code == 200

        rotate(alice, service_key, overlap_hours=0)

        assert service_key.get("/api/v1/projects").status_code == 401

    def test_never_prolongs_the_old_one(self, app, alice):
        soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        old = people.make_key(alice, app=app, **SERVICE, expires_at=soon)

        rotate(alice, old)

        shown = moment(alice.get(f"{KEYS_PATH}/{old.key_id}").json["expires_at"])
        assert shown == moment(soon)

    def test_harms_nobody_when_done_twice(self, app, alice, service_key):
        new = people.Caller(app.test_client(), rotate(alice, service_key).json["key"])

        answer = rotate(alice, service_key)

        assert answer.status_code == 409
        assert answer.json["code"] == "already_rotated"
        assert new.get("/api/v1/projects").status_code == 200
        assert service_key.get("/api/v1/projects").status_code == 200

    def test_wakes_no_expired_one(self, alice, service_key, as_system):
        sql = "UPDATE api_keys SET expires_at = now() WHERE id = :id"
        as_system(sql, id=service_key.key_id)

        assert rotate(alice, service_key).json["code"] == "api_key_expired"

    def test_gives_nobody_the_key_of_another_person(self, alice, carol, personal_key):
        answer = rotate(alice, personal_key)

        assert answer.status_code == 403
        assert answer.json["code"] == "not_your_key"
        assert rotate(carol, personal_key).status_code == 201

    def test_is_for_whom_may_revoke_it(self, bob, carol, ingest_key, service_key):
        assert rotate(bob, ingest_key).status_code == 403
        assert rotate(carol, service_key).status_code == 403
        assert rotate(carol, ingest_key).status_code == 201

    def test_needs_a_fresh_proof_for_a_service_key(self, alice, service_key, as_system):
        age = "UPDATE sessions SET proven_at = now() - interval '1 hour' WHERE user_id = :id"
        as_system(age, id=alice.user_id)

        for answer in (
            rotate(alice, service_key),
            alice.patch(f"{KEYS_PATH}/{service_key.key_id}", json={"name": "new"}),
        ):
            assert answer.json["code"] == "step_up_required"

    def test_is_not_for_keys(self, app, alice, service_key):
        key = people.make_key(alice, app=app, kind="personal")

        assert rotate(key, service_key).status_code == 403

    @pytest.mark.parametrize(
        "fields",
        [{"overlap_hours": -1}, {"overlap_hours": 169}, {"expires_at": "2020-01-01T00:00:00Z"}],
    )
    def test_names_the_broken_rule(self, alice, service_key, fields):
        answer = rotate(alice, service_key, **fields)

        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json["errors"]] == [f"/{next(iter(fields))}"]

    def test_hides_the_keys_of_others(self, stranger, service_key):
        assert rotate(stranger, service_key).status_code == 404

    def test_is_audited(self, alice, service_key, events):
        rotate(alice, service_key)

        assert set(events()[-2:]) == {"api_key.created", "api_key.rotated"}


class TestAllowedIps:
    def test_lets_the_key_in_from_there_only(self, app, alice):
        key = people.make_key(
            alice, app=app, **SERVICE, allowed_ips=["203.0.113.0/24", "2001:db8::/48"]
        )

        def status(ip):
            answer = key.get("/api/v1/projects", environ_base={"REMOTE_ADDR": ip})
            return answer.status_code

        assert [status(ip) for ip in ("203.0.113.7", "2001:db8::5", "::ffff:203.0.113.9")] == [
            200
        ] * 3
        # The second time out of the cache of the process.
        assert [status(ip) for ip in ("203.0.114.7", "127.0.0.1", "2001:db9::5")] == [403] * 3
        elsewhere = key.get("/api/v1/projects", environ_base={"REMOTE_ADDR": "127.0.0.1"})
        assert elsewhere.json["code"] == "ip_not_allowed"

    def test_are_kept_as_networks(self, alice, app):
        form = {"name": "k", **SERVICE, "allowed_ips": ["10.1.2.3/8", " 192.0.2.1 "]}

        answer = alice.post(KEYS_PATH, json=form)

        assert answer.json["allowed_ips"] == ["10.0.0.0/8", "192.0.2.1/32"]

    @pytest.mark.parametrize(
        "network", ["", "x", "10.0.0.0/33", "10.0.0", "::ffff:10.0.0.0/104", "example.com", 7]
    )
    def test_must_be_networks(self, alice, network):
        answer = alice.post(KEYS_PATH, json={"name": "k", **SERVICE, "allowed_ips": [network]})

        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "/allowed_ips/0"

    def test_change_at_once_in_this_process(self, alice, service_key, events):
        assert service_key.get("/api/v1/projects").status_code == 200
        path = f"{KEYS_PATH}/{service_key.key_id}"

        assert alice.patch(path, json={"allowed_ips": ["192.0.2.0/24"]}).status_code == 200
        assert service_key.get("/api/v1/projects").status_code == 403
        assert alice.patch(path, json={"name": "Reports"}).json["allowed_ips"] == ["192.0.2.0/24"]
        assert alice.patch(path, json={"allowed_ips": []}).json["name"] == "Reports"
        assert service_key.get("/api/v1/projects").status_code == 200
        assert events()[-1] == "api_key.updated"

    @pytest.mark.parametrize(
        "field", ["scopes", "kind", "user_id", "expires_at", "organization_id"]
    )
    def test_are_all_that_may_change_beside_the_name(self, alice, service_key, field):
        answer = alice.patch(f"{KEYS_PATH}/{service_key.key_id}", json={field: None})

        assert answer.status_code == 422


class TestReportLeak:
    def report(self, client, token, **fields):
        return client.post(LEAKS, json={"token": token, **fields})

    def test_ends_the_key(self, anonymous, alice, service_key, events):
        assert service_key.get("/api/v1/projects").status_code == 200

        answer = self.report(
            anonymous, service_key.token, source="github", url="https://example.com/x"
        )

        assert (answer.status_code, answer.json) == (202, {"status": "accepted"})
        assert service_key.get("/api/v1/projects").status_code == 401
        assert alice.get(f"{KEYS_PATH}/{service_key.key_id}").json["revoked_at"] is not None
        assert events()[-1] == "api_key.leaked"

    def test_finds_it_in_a_line(self, anonymous, service_key):
        self.report(anonymous, f'DEVGUARD_KEY="{service_key.token}" # prod')

        assert service_key.get("/api/v1/projects").status_code == 401

    @pytest.mark.parametrize(
        "kind", ["nonsense", "of nobody", "wrong checksum", "again", "rotated"]
    )
    def test_answers_alike_whatever_it_is(self, anonymous, alice, service_key, kind):
        texts = {
            "nonsense": "password123",
            "of nobody": new_key("service"),
            "wrong checksum": service_key.token[:-1] + "!",
        }
        if kind == "again":
            self.report(anonymous, service_key.token)
        if kind == "rotated":
            rotate(alice, service_key)

        answer = self.report(anonymous, texts.get(kind, service_key.token))

        assert (answer.status_code, answer.json) == (202, {"status": "accepted"})

    def test_ends_nothing_by_a_part_of_a_key(self, anonymous, service_key):
        self.report(anonymous, service_key.token[:-1])
        self.report(anonymous, "x" + service_key.token)

        assert service_key.get("/api/v1/projects").status_code == 200

    def test_is_written_down_for_its_organization_without_the_token(
        self, anonymous, alice, service_key, as_system
    ):
        self.report(anonymous, service_key.token, source="github")

        sql = (
            "SELECT actor_kind, after, a::text FROM audit_logs a"
            " WHERE organization_id = :id AND event = 'api_key.leaked'"
        )
        ((actor_kind, after, row),) = as_system(sql, id=alice.organization_id)
        assert actor_kind == "system"
        assert '"source":"github"' in after
        assert service_key.token not in row

    @pytest.mark.parametrize("form", [{}, {"token": 7}, {"token": "x" * 2001}, {"key": "x"}])
    def test_wants_a_token(self, anonymous, form):
        assert anonymous.post(LEAKS, json=form).status_code == 422
