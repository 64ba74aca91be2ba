"""Sessions as their owner sees and ends them; how long one lives."""

from datetime import UTC, datetime, timedelta

import pytest

from app.auth.devices import device_of
from app.kit.ids import new_id
from tests.factories import people

SESSIONS = "/api/v1/auth/sessions"
ME = "/api/v1/auth/me"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def again(app, alice):
    """Alice in a second session."""
    return people.sign_in(app, email=alice.email, password=alice.password)


class TestListSessions:
    def test_shows_each_with_device_and_address_and_marks_this_one(self, anonymous, alice):
        form = {"email": alice.email, "password": alice.password}
        anonymous.post("/api/v1/auth/login", json=form, headers={"User-Agent": FIREFOX})

        newest, oldest = alice.get(SESSIONS).json["items"]

        assert newest["device"] == "Firefox on Linux"
        assert newest["user_agent"] == FIREFOX
        assert newest["ip"] == "127.0.0.1"
        assert not newest["is_current"]
        assert oldest["is_current"]
        assert oldest["id"] == str(alice.session_id)

    def test_shows_nobody_elses(self, alice, bob):
        assert [item["id"] for item in bob.get(SESSIONS).json["items"]] == [str(bob.session_id)]

    def test_shows_no_ended_one(self, alice, again):
        again.post("/api/v1/auth/logout")

        assert len(alice.get(SESSIONS).json["items"]) == 1

    def test_pages(self, alice, again):
        first = alice.get(SESSIONS, query_string={"limit": 1}).json
        second = alice.get(SESSIONS, query_string={"limit": 1, "cursor": first["next_cursor"]}).json

        shown = [item["id"] for page in (first, second) for item in page["items"]]
        assert shown == [str(again.session_id), str(alice.session_id)]
        assert second["next_cursor"] is None

    def test_refuses_the_cursor_of_a_colleague(self, alice, again, bob):
        cursor = alice.get(SESSIONS, query_string={"limit": 1}).json["next_cursor"]

        answer = bob.get(SESSIONS, query_string={"limit": 1, "cursor": cursor})

        assert answer.status_code == 422

    def test_is_not_for_keys(self, app, alice):
        key = people.make_key(alice, app=app, kind="personal")

        assert key.get(SESSIONS).status_code == 403


class TestDeleteSession:
    def test_ends_it_at_once_with_its_refresh_token(self, anonymous, alice, again):
        assert alice.delete(f"{SESSIONS}/{again.session_id}").status_code == 204

        assert again.get(ME).status_code == 401
        form = {"refresh_token": again.refresh_token}
        assert anonymous.post("/api/v1/auth/refresh", json=form).status_code == 401
        assert alice.get(ME).status_code == 200

    def test_hides_the_session_of_a_colleague(self, alice, bob):
        assert alice.delete(f"{SESSIONS}/{bob.session_id}").status_code == 404
        assert bob.get(ME).status_code == 200

    def test_knows_no_ended_or_invented_one(self, alice, again):
        alice.delete(f"{SESSIONS}/{again.session_id}")

        assert alice.delete(f"{SESSIONS}/{again.session_id}").status_code == 404
        assert alice.delete(f"{SESSIONS}/{new_id()}").status_code == 404


class TestDeleteSessions:
    def test_ends_all_but_this_one(self, alice, again, bob):
        assert again.delete(SESSIONS).status_code == 204

        assert alice.get(ME).status_code == 401
        assert again.get(ME).status_code == 200
        assert bob.get(ME).status_code == 200


class TestLifetimes:
    def test_ends_a_week_after_the_last_renewal_and_a_month_after_its_beginning(self, alice):
        (mine,) = alice.get(SESSIONS).json["items"]

        begun = datetime.fromisoformat(mine["created_at"])
        assert datetime.fromisoformat(mine["idle_expires_at"]) == begun + timedelta(days=7)
        assert datetime.fromisoformat(mine["expires_at"]) == begun + timedelta(days=30)

    def test_lives_on_by_renewal_but_never_past_its_end(self, app, anonymous, alice, as_system):
        end = datetime.now(UTC) + timedelta(days=2)
        as_system(
            "UPDATE sessions SET idle_expires_at = now() + interval '1 minute', expires_at = :end"
            " WHERE user_id = :id",
            end=end,
            id=alice.user_id,
        )
        form = {"refresh_token": alice.refresh_token}

        assert anonymous.post("/api/v1/auth/refresh", json=form).status_code == 200

        read = "SELECT idle_expires_at FROM sessions WHERE user_id = :id"
        assert as_system(read, id=alice.user_id) == [(end,)]


class TestDeviceOf:
    @pytest.mark.parametrize(
        ("user_agent", "device"),
        [
            (FIREFOX, "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Version/18 Safari/605",
                "Safari on macOS",
            ),
            ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537", "Chrome on Android"),
            ("curl/8.5.0", "curl/8.5.0"),
            ("  ", "unknown device"),
            (None, "unknown device"),
        ],
    )
    def test_says_what_a_person_would(self, user_agent, device):
        assert device_of(user_agent) == device
