"""Refresh tokens: each works once, and what a second use means."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from app.auth.tasks import forget_ended_sessions
from tests.factories.tenants import as_platform

AUTH = "/api/v1/auth"


@pytest.fixture
def refresh(app):
    def send(token):
        return app.test_client().post(f"{AUTH}/refresh", json={"refresh_token": token})

    return send


@pytest.fixture
def used_long_ago(as_system):
    """Make every used refresh token of a person one that was used eleven seconds ago."""

    def age(person):
        as_system(
            "UPDATE refresh_tokens SET used_at = used_at - interval '11 s' WHERE session_id IN"
            " (SELECT id FROM sessions WHERE user_id = :id)",
            id=person.user_id,
        )

    return age


class TestRefresh:
    def test_answers_the_next_credentials(self, alice, refresh):
        answer = refresh(alice.refresh_token)

        assert answer.status_code == 200
        assert answer.json["refresh_token"] != alice.refresh_token
        renewed = replace(alice, token=answer.json["access_token"])
        assert renewed.get(f"{AUTH}/me").status_code == 200

    def test_goes_on_from_token_to_token(self, alice, refresh):
        token = alice.refresh_token
        for _ in range(5):
            answer = refresh(token)
            assert answer.status_code == 200
            token = answer.json["refresh_token"]

    def test_never_prolongs_the_session(self, alice, refresh):
        once = refresh(alice.refresh_token)
        twice = refresh(once.json["refresh_token"])

        assert once.json["refresh_expires_at"] == twice.json["refresh_expires_at"]

    def test_lets_one_of_twenty_at_once_win_and_harms_nobody(self, alice, refresh):
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(refresh, [alice.refresh_token] * 20))

        winners = [answer for answer in answers if answer.status_code == 200]
        assert len(winners) == 1
        assert {answer.status_code for answer in answers} == {200, 401}
        assert alice.get(f"{AUTH}/me").status_code == 200
        assert refresh(winners[0].json["refresh_token"]).status_code == 200

    def test_refuses_reuse_within_the_grace_without_consequence(self, alice, refresh):
        renewed = refresh(alice.refresh_token)

        answer = refresh(alice.refresh_token)

        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"]
        assert answer.json["code"] == "invalid_refresh_token"
        assert refresh(renewed.json["refresh_token"]).status_code == 200

    def test_ends_the_session_on_later_reuse(self, alice, refresh, used_long_ago, as_system):
        renewed = refresh(alice.refresh_token)
        used_long_ago(alice)

        assert refresh(alice.refresh_token).status_code == 401

        assert refresh(renewed.json["refresh_token"]).status_code == 401
        assert alice.get(f"{AUTH}/me").status_code == 401
        read = "SELECT event FROM audit_logs WHERE organization_id = :id ORDER BY id"
        events = [event for (event,) in as_system(read, id=alice.organization_id)]
        assert events[-1] == "session.reuse_detected"

    def test_leaves_other_sessions_alone_on_reuse(self, app, alice, bob, refresh, used_long_ago):
        refresh(alice.refresh_token)
        used_long_ago(alice)

        refresh(alice.refresh_token)

        assert bob.get(f"{AUTH}/me").status_code == 200

    @pytest.mark.parametrize(
        "deed",
        [
            "UPDATE users SET disabled_at = now() WHERE id = :id",
            "UPDATE users SET epoch = epoch + 1 WHERE id = :id",
            "UPDATE sessions SET idle_expires_at = now(), expires_at = now() WHERE user_id = :id",
            "UPDATE sessions SET idle_expires_at = now() WHERE user_id = :id",
            "DELETE FROM memberships WHERE user_id = :id",
        ],
    )
    def test_ends_with_what_the_session_stands_on(self, bob, refresh, as_system, deed):
        as_system(deed, id=bob.user_id)

        assert refresh(bob.refresh_token).status_code == 401

    @pytest.mark.parametrize("token", ["", "x", "dgr_" + "A" * 43, "é" * 50])
    def test_refuses_nonsense(self, refresh, token):
        assert refresh(token).status_code == 401

    def test_refuses_an_access_token(self, alice, refresh):
        assert refresh(alice.token).status_code in {401, 422}
        assert refresh(alice.token[:200]).status_code == 401

    @pytest.mark.parametrize("token", ["x" * 201, "x" * 900_000, None, 7, ["x"]])
    def test_refuses_what_is_no_text_of_its_size(self, refresh, token):
        assert refresh(token).status_code == 422

    def test_stores_only_the_digest(self, alice, as_system):
        rows = as_system(
            "SELECT t::text FROM refresh_tokens t WHERE organization_id = :id",
            id=alice.organization_id,
        )

        assert len(rows) == 1
        assert alice.refresh_token not in rows[0][0]


class TestForgetEndedSessions:
    def test_deletes_sessions_a_week_after_their_end_with_their_tokens(
        self, app, alice, bob, as_system
    ):
        as_system(
            "UPDATE sessions SET idle_expires_at = now() - interval '8 days',"
            " expires_at = now() - interval '8 days' WHERE user_id = :id",
            id=alice.user_id,
        )
        with as_platform(app):
            forget_ended_sessions()

        read = "SELECT user_id FROM sessions WHERE organization_id = :id"
        assert as_system(read, id=alice.organization_id) == [(bob.user_id,)]
        tokens = "SELECT count(*) FROM refresh_tokens WHERE organization_id = :id"
        assert as_system(tokens, id=alice.organization_id) == [(1,)]
