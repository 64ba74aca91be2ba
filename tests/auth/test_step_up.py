"""What changes credentials needs a person who showed a moment ago that he is who he says."""

import pytest

from tests.factories.factor import Factor

AUTH = "/api/v1/auth"
SERVICE_KEY = {"kind": "service", "name": "k", "scopes": ["analytics:read"]}
# What needs a fresh proof, each answering something else than `step_up_required` with one.
GUARDED = [
    ("POST", f"{AUTH}/mfa/totp", None),
    ("POST", f"{AUTH}/mfa/totp/confirm", {"code": "123456"}),
    ("POST", f"{AUTH}/mfa/totp/disable", None),
    ("POST", f"{AUTH}/mfa/recovery-codes", None),
    ("PUT", f"{AUTH}/mfa/policy", {"mfa_required": False}),
    ("POST", "/api/v1/api-keys", SERVICE_KEY),
]


@pytest.fixture(autouse=True)
def nothing_counted(as_system):
    as_system("DELETE FROM auth_failures")


@pytest.fixture
def stale(as_system):
    """Make a person's sessions ones that were proven a quarter of an hour ago."""

    def age(person):
        as_system(
            "UPDATE sessions SET proven_at = now() - interval '15 minutes' WHERE user_id = :id",
            id=person.user_id,
        )

    return age


def is_asked(person, method, path, form):
    answer = person.call(method, path, **({} if form is None else {"json": form}))
    return answer.status_code == 403 and answer.json["code"] == "step_up_required"


class TestGuardedDeeds:
    @pytest.mark.parametrize(("method", "path", "form"), GUARDED)
    def test_are_open_after_signing_in_and_closed_later(self, alice, stale, method, path, form):
        assert not is_asked(alice, method, path, form)

        stale(alice)

        assert is_asked(alice, method, path, form)

    def test_are_not_closed_by_being_refreshed(self, anonymous, alice, stale):
        stale(alice)
        form = {"refresh_token": alice.refresh_token}
        alice.token = anonymous.post(f"{AUTH}/refresh", json=form).json["access_token"]

        assert is_asked(alice, "POST", f"{AUTH}/mfa/totp", None)

    def test_leave_other_keys_alone(self, alice, stale):
        stale(alice)

        form = {"kind": "personal", "name": "k"}
        assert alice.post("/api/v1/api-keys", json=form).status_code == 201


class TestCreateStepUp:
    def test_opens_by_the_password(self, alice, stale):
        stale(alice)

        assert alice.post(f"{AUTH}/step-up", json={"password": alice.password}).status_code == 204

        assert not is_asked(alice, "POST", f"{AUTH}/mfa/totp", None)

    @pytest.mark.parametrize("kind", ["totp", "recovery"])
    def test_opens_by_a_code_that_is_used_up_then(self, app, alice, stale, kind):
        factor = Factor.enrolled(app, alice)
        stale(alice)
        code = factor.code(steps=1) if kind == "totp" else factor.codes[0]

        assert factor.person.post(f"{AUTH}/step-up", json={"code": code}).status_code == 204
        assert not is_asked(factor.person, "POST", f"{AUTH}/mfa/recovery-codes", None)
        if kind == "totp":
            assert factor.person.post(f"{AUTH}/step-up", json={"code": code}).status_code == 403

    def test_opens_this_session_only(self, app, alice, bob, stale):
        stale(alice)
        stale(bob)

        alice.post(f"{AUTH}/step-up", json={"password": alice.password})

        assert is_asked(bob, "POST", f"{AUTH}/mfa/totp", None)

    def test_refuses_a_wrong_password_and_a_wrong_code(self, alice, stale):
        stale(alice)

        for form, code in (
            ({"password": "wrong password"}, "wrong_password"),
            ({"code": "123456"}, "wrong_code"),
        ):
            answer = alice.post(f"{AUTH}/step-up", json=form)
            assert (answer.status_code, answer.json["code"]) == (403, code)
        assert is_asked(alice, "POST", f"{AUTH}/mfa/totp", None)

    @pytest.mark.parametrize("form", [{}, {"password": "x" * 9, "code": "123456"}, {"code": "1"}])
    def test_wants_one_proof(self, alice, form):
        assert alice.post(f"{AUTH}/step-up", json=form).status_code == 422

    def test_counts_wrong_codes(self, alice):
        answers = [alice.post(f"{AUTH}/step-up", json={"code": "123456"}) for _ in range(6)]

        assert [answer.status_code for answer in answers] == [403] * 5 + [429]
