import threading
from datetime import UTC, datetime

import pytest

from app.audit.redaction import is_secret
from app.extensions import celery, db
from app.kit.endpoint import REGISTRY
from app.kit.idempotency_keys import KeyScope, try_lock
from app.kit.tenancy import organization_scope
from tests.factories import people
from tests.factories.tenants import as_platform

PROJECTS = "/api/v1/projects"
API_KEYS = "/api/v1/api-keys"
REQUESTS = "/api/v1/api-gateway/requests"
KEY = {"Idempotency-Key": "deed-1"}


def slugs_of(caller):
    return [item["slug"] for item in caller.get(PROJECTS).json["items"]]


class TestRepeat:
    def test_answers_the_same_and_does_nothing(self, alice):
        form = {"name": "Shop", "slug": "shop"}
        first = alice.post(PROJECTS, json=form, headers=KEY)
        second = alice.post(PROJECTS, json=form, headers=KEY)

        assert (first.status_code, second.status_code) == (201, 201)
        assert second.data == first.data
        for name in ("Location", "Content-Type"):
            assert second.headers[name] == first.headers[name]
        assert "Idempotent-Replayed" not in first.headers
        assert second.headers["Idempotent-Replayed"] == "true"
        assert second.headers["X-Request-Id"] != first.headers["X-Request-Id"]
        assert slugs_of(alice) == ["shop"]

    def test_leaves_one_audit_event(self, alice, as_system):
        for _ in range(2):
            alice.post(PROJECTS, json={"name": "Shop"}, headers=KEY)

        count = "SELECT count(*) FROM audit_logs WHERE organization_id = :id AND event = 'project.created'"
        assert as_system(count, id=alice.organization_id) == [(1,)]

    def test_of_another_payload_is_refused(self, alice):
        alice.post(PROJECTS, json={"name": "Shop"}, headers=KEY)

        answer = alice.post(PROJECTS, json={"name": "Other"}, headers=KEY)

        assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")
        assert slugs_of(alice) == ["shop"]

    def test_with_other_arguments_is_refused(self, ingest_key):
        call = {
            "id": "c-1", "provider": "openai", "request_model": "gpt-4o",
            "started_at": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        ingest_key.post(REQUESTS, json=call, headers=KEY)

        answer = ingest_key.post(f"{REQUESTS}?results=all", json=call, headers=KEY)

        assert answer.status_code == 422

    def test_of_logged_calls_is_replayed(self, ingest_key):
        call = {
            "id": "c-1", "provider": "openai", "request_model": "gpt-4o",
            "started_at": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        first = ingest_key.post(REQUESTS, json=call, headers=KEY)
        second = ingest_key.post(REQUESTS, json=call, headers=KEY)

        assert (first.status_code, second.status_code) == (201, 201)
        assert second.json == first.json

    def test_after_a_refusal_is_a_first_try(self, alice):
        taken = {"name": "Shop", "slug": "shop"}
        people.make_project(alice, slug="shop")
        assert alice.post(PROJECTS, json=taken, headers=KEY).status_code == 409
        assert alice.post(PROJECTS, json={"name": ""}, headers=KEY).status_code == 422

        answer = alice.post(PROJECTS, json=taken | {"slug": "shop-2"}, headers=KEY)

        assert answer.status_code == 201
        assert "Idempotent-Replayed" not in answer.headers

    def test_of_another_route_or_person_is_another_deed(self, alice, admin, stranger, project):
        form = {"name": "Shop", "slug": "shop"}
        assert alice.post(PROJECTS, json=form, headers=KEY).status_code == 201
        assert stranger.post(PROJECTS, json=form, headers=KEY).status_code == 201
        assert admin.post(PROJECTS, json=form, headers=KEY).json["code"] == "slug_taken"
        form = {"kind": "ingest", "name": "k", "project_id": str(project.id)}
        assert alice.post(API_KEYS, json=form, headers=KEY).status_code == 201

    def test_after_a_day_is_a_first_try(self, alice, as_system):
        alice.post(PROJECTS, json={"name": "Shop"}, headers=KEY)
        as_system(
            "UPDATE idempotency_keys SET expires_at = now() WHERE organization_id = :id",
            id=alice.organization_id,
        )

        answer = alice.post(PROJECTS, json={"name": "Other"}, headers=KEY)

        assert answer.status_code == 201
        assert alice.post(PROJECTS, json={"name": "Other"}, headers=KEY).data == answer.data

    def test_while_the_first_runs_is_refused(self, app, alice):
        scope = KeyScope(
            alice.organization_id, alice.user_id, "projects.create_project", KEY["Idempotency-Key"]
        )
        with app.app_context(), organization_scope(alice.organization_id):
            assert try_lock(scope)
            answers = []
            other = threading.Thread(
                target=lambda: answers.append(
                    alice.post(PROJECTS, json={"name": "Shop"}, headers=KEY)
                )
            )
            other.start()
            other.join()
            db.session.rollback()

        (answer,) = answers
        assert (answer.status_code, answer.json["code"]) == (409, "idempotency_key_in_use")
        assert answer.headers["Retry-After"] == "1"
        assert alice.post(PROJECTS, json={"name": "Shop"}, headers=KEY).status_code == 201

    def test_of_eight_at_once_has_one_effect(self, app, alice):
        statuses = []

        def send():
            caller = people.Caller(app.test_client(), alice.token)
            statuses.append(caller.post(PROJECTS, json={"name": "Shop"}, headers=KEY).status_code)

        senders = [threading.Thread(target=send) for _ in range(8)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()

        assert set(statuses) <= {201, 409}
        assert 201 in statuses
        assert slugs_of(alice) == ["shop"]


class TestKey:
    @pytest.mark.parametrize("key", ["", "x" * 256, "two words", "ümlaut"])
    def test_of_another_form_is_refused(self, alice, key):
        answer = alice.post(PROJECTS, json={"name": "Shop"}, headers={"Idempotency-Key": key})

        assert (answer.status_code, answer.json["code"]) == (400, "invalid_idempotency_key")

    def test_may_be_255_characters_long(self, alice):
        headers = {"Idempotency-Key": "x" * 255}
        assert alice.post(PROJECTS, json={"name": "Shop"}, headers=headers).status_code == 201

    def test_saves_nobody_from_the_scope(self, bob):
        assert bob.post(PROJECTS, json={"name": "Shop"}, headers=KEY).status_code == 403


class TestSecretAnswer:
    def test_is_given_once_and_never_kept(self, alice, as_system):
        form = {"kind": "personal", "name": "k"}
        first = alice.post(API_KEYS, json=form, headers=KEY)
        second = alice.post(API_KEYS, json=form, headers=KEY)

        assert (second.status_code, second.json["code"]) == (409, "answered_once")
        assert second.headers["Location"] == first.headers["Location"]
        rows = as_system(
            "SELECT body, headers::text FROM idempotency_keys WHERE organization_id = :id",
            id=alice.organization_id,
        )
        assert [bytes(body) for body, _ in rows] == [b""]
        assert first.json["key"] not in rows[0][1]
        assert len(alice.get(API_KEYS).json["items"]) == 1

    def test_is_declared_by_every_route_that_has_one(self, app):
        silent = [
            f"{spec.name}: {name}"
            for spec in REGISTRY.endpoints.values()
            if spec.takes_idempotency_key and spec.unreplayed is None
            for model in spec.answers.values()
            for name in getattr(model, "model_fields", {})
            if is_secret(name)
        ]

        assert silent == [], "say in `unreplayed` that the answer holds a secret"


class TestForgetIdempotencyKeys:
    def test_deletes_what_is_a_day_old(self, app, alice, as_system):
        for key in ("old", "new"):
            alice.post(PROJECTS, json={"name": key}, headers={"Idempotency-Key": key})
        as_system(
            "UPDATE idempotency_keys SET expires_at = now() - interval '1 second'"
            " WHERE organization_id = :id AND key = 'old'",
            id=alice.organization_id,
        )

        with as_platform(app):
            celery.tasks["kit.forget_idempotency_keys"]()

        left = "SELECT key FROM idempotency_keys WHERE organization_id = :id"
        assert as_system(left, id=alice.organization_id) == [("new",)]
