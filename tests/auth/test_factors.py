"""Second factors: enrolling, the second step of a login, recovery, what an organization may ask."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine

from app.organizations.roles import Role
from tests.factories import people
from tests.factories.factor import Factor, code_of

AUTH = "/api/v1/auth"
MFA = f"{AUTH}/mfa"
LOGIN_MFA = f"{AUTH}/login/mfa"


@pytest.fixture(autouse=True)
def nothing_counted(as_system):
    as_system("DELETE FROM auth_failures")


@pytest.fixture
def factor(app, alice):
    return Factor.enrolled(app, alice)


def later(seconds):
    return time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds))


class TestCreateTotp:
    def test_shows_secret_uri_and_image(self, alice):
        answer = alice.post(f"{MFA}/totp")

        assert answer.status_code == 201
        assert answer.headers["Cache-Control"] == "no-store"
        uri = urlsplit(answer.json["otpauth_uri"])
        assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
        assert parse_qs(uri.query)["secret"] == [answer.json["secret"]]
        assert len(answer.json["secret"]) == 32
        assert answer.json["qr_svg"].startswith("<svg ")

    def test_changes_nothing_before_it_is_confirmed(self, app, alice):
        alice.post(f"{MFA}/totp")

        assert alice.get(MFA).json["totp_enabled"] is False
        assert people.sign_in(app, email=alice.email, password=alice.password)

    def test_voids_the_offer_before(self, alice):
        first = alice.post(f"{MFA}/totp").json["secret"]
        alice.post(f"{MFA}/totp")

        answer = alice.post(f"{MFA}/totp/confirm", json={"code": code_of(first)})

        assert answer.status_code == 403

    def test_is_refused_while_one_is_enrolled(self, factor):
        answer = factor.person.post(f"{MFA}/totp")

        assert answer.status_code == 409
        assert answer.json["code"] == "mfa_enrolled"

    def test_stores_no_secret_in_clear(self, factor, as_system):
        read = "SELECT t::text FROM user_totp t WHERE user_id = :id"
        ((row,),) = as_system(read, id=factor.person.user_id)

        assert factor.secret not in row

    def test_is_not_for_keys(self, app, alice):
        key = people.make_key(alice, app=app, kind="personal")

        assert key.post(f"{MFA}/totp").status_code == 403
        assert key.get(MFA).status_code == 403


class TestConfirmTotp:
    def test_answers_recovery_codes_and_ends_the_other_sessions(self, app, alice):
        other = people.sign_in(app, email=alice.email, password=alice.password)

        factor = Factor.enrolled(app, alice)

        assert len(set(factor.codes)) == 10
        assert other.get(f"{AUTH}/me").status_code == 401
        assert alice.get(f"{AUTH}/me").status_code == 401
        mfa = factor.person.get(MFA).json
        assert (mfa["totp_enabled"], mfa["recovery_codes_left"]) == (True, 10)

    def test_refuses_a_wrong_code(self, alice):
        secret = alice.post(f"{MFA}/totp").json["secret"]

        answer = alice.post(f"{MFA}/totp/confirm", json={"code": code_of(secret, steps=-9)})

        assert answer.status_code == 403
        assert answer.json["code"] == "wrong_code"

    def test_needs_an_offer(self, alice):
        answer = alice.post(f"{MFA}/totp/confirm", json={"code": "123456"})

        assert answer.status_code == 409
        assert answer.json["code"] == "mfa_not_offered"


class TestLogin:
    def test_asks_for_the_second_step(self, anonymous, factor):
        person = factor.person

        answer = anonymous.post(
            f"{AUTH}/login", json={"email": person.email, "password": person.password}
        )

        assert answer.status_code == 401
        assert answer.mimetype == "application/problem+json"
        assert answer.json["code"] == "mfa_required"
        assert answer.json["expires_in_s"] == 300
        assert "access_token" not in answer.text

    def test_tells_nothing_of_it_without_the_password(self, anonymous, factor):
        form = {"email": factor.person.email, "password": "wrong password"}

        assert anonymous.post(f"{AUTH}/login", json=form).json["code"] == "invalid_credentials"


class TestLoginByCode:
    def test_opens_a_session(self, factor):
        answer = factor.sign_in(factor.code(steps=1))

        assert answer.status_code == 200
        assert answer.json["user"]["id"] == str(factor.person.user_id)
        assert answer.json["device_token"]

    def test_refuses_the_code_that_was_used(self, factor):
        code = factor.code(steps=1)
        assert factor.sign_in(code).status_code == 200

        answer = factor.sign_in(code)

        assert answer.status_code == 401
        assert answer.json["code"] == "invalid_mfa_code"

    def test_refuses_an_earlier_step_after_a_later_one(self, factor):
        factor.sign_in(factor.code(steps=1))

        assert factor.sign_in(factor.code()).status_code == 401

    def test_refuses_the_code_that_enrolled(self, factor, as_system):
        assert factor.sign_in(factor.code()).status_code == 401

    def test_takes_one_of_ten_at_once(self, factor):
        challenge, code = factor.challenge(), factor.code(steps=1)

        def sign_in(_place):
            return factor.sign_in(code, challenge=challenge).status_code

        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(sign_in, range(4)))

        assert sorted(statuses) == [200, 401, 401, 401]

    @pytest.mark.parametrize("steps", [-2, 2, 100])
    def test_refuses_a_code_of_another_time(self, factor, steps):
        with later(3600):
            assert factor.sign_in(factor.code(steps=steps)).status_code == 401

    @pytest.mark.parametrize("steps", [-1, 0, 1])
    def test_takes_a_code_of_a_clock_that_is_half_a_minute_off(self, factor, steps):
        with later(3600):
            assert factor.sign_in(factor.code(steps=steps)).status_code == 200

    def test_takes_each_recovery_code_once_however_it_is_typed(self, factor):
        code = factor.codes[3]

        assert factor.sign_in(code.upper().replace("-", " ")).status_code == 200
        assert factor.sign_in(code).status_code == 401
        assert factor.sign_in(factor.codes[4]).status_code == 200

    def test_takes_no_recovery_code_of_others(self, app, factor, stranger):
        other = Factor.enrolled(app, stranger)

        assert factor.sign_in(other.codes[0]).status_code == 401

    @pytest.mark.parametrize("challenge", ["", "x", "a.b.c"])
    def test_refuses_nonsense_for_a_challenge(self, factor, challenge):
        answer = factor.sign_in(factor.code(steps=1), challenge=challenge or "nobody")

        assert answer.json["code"] == "invalid_challenge"

    def test_refuses_an_access_token_for_a_challenge_and_the_other_way_round(
        self, factor, anonymous
    ):
        answer = factor.sign_in(factor.code(steps=1), challenge=factor.person.token)
        assert answer.json["code"] == "invalid_challenge"

        headers = {"Authorization": f"Bearer {factor.challenge()}"}
        assert anonymous.get(f"{AUTH}/me", headers=headers).status_code == 401

    def test_refuses_an_old_challenge(self, factor):
        challenge = factor.challenge()

        with later(301):
            answer = factor.sign_in(factor.code(), challenge=challenge)

        assert answer.json["code"] == "invalid_challenge"

    def test_refuses_a_challenge_of_before_a_new_password(self, factor):
        challenge = factor.challenge()
        form = {"current_password": factor.person.password, "new_password": "another long one"}
        assert factor.person.post(f"{AUTH}/change-password", json=form).status_code == 200

        answer = factor.sign_in(factor.codes[0], challenge=challenge)

        assert answer.json["code"] == "invalid_challenge"

    def test_takes_five_wrong_codes_in_five_minutes_and_then_a_recovery_code(self, factor):
        challenge = factor.challenge()
        answers = [factor.sign_in("000000", challenge=challenge) for _ in range(6)]

        assert [answer.status_code for answer in answers] == [401] * 5 + [429]
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 300
        assert factor.sign_in(factor.codes[0], challenge=challenge).status_code == 200


class TestDisableTotp:
    def test_makes_the_password_enough_again(self, app, factor):
        other = factor.sign_in(factor.codes[0]).json["access_token"]

        answer = factor.person.post(f"{MFA}/totp/disable")

        assert answer.status_code == 200
        assert people.Caller(app.test_client(), other).get(f"{AUTH}/me").status_code == 401
        renewed = people.Caller(app.test_client(), answer.json["access_token"])
        assert renewed.get(MFA).json == {
            "totp_enabled": False,
            "enabled_at": None,
            "recovery_codes_left": 0,
            "required": False,
        }
        assert people.sign_in(app, email=factor.person.email, password=factor.person.password)

    def test_needs_one_to_be_enrolled(self, alice):
        assert alice.post(f"{MFA}/totp/disable").status_code == 409


class TestCreateRecoveryCodes:
    def test_voids_the_earlier_ones(self, factor):
        codes = factor.person.post(f"{MFA}/recovery-codes").json["recovery_codes"]

        assert factor.sign_in(factor.codes[0]).status_code == 401
        assert factor.sign_in(codes[0]).status_code == 200

    def test_needs_a_second_factor(self, alice):
        assert alice.post(f"{MFA}/recovery-codes").status_code == 409


class TestMfaPolicy:
    @pytest.fixture
    def required(self, app, alice):
        """The app of Alice, who wants a second factor of everybody."""
        factor = Factor.enrolled(app, alice)
        answer = factor.person.put(f"{MFA}/policy", json={"mfa_required": True})
        assert answer.status_code == 200, answer.text
        return factor

    def test_lets_members_without_a_factor_only_enrol(self, app, bob, required):
        assert bob.get("/api/v1/projects").status_code == 403
        answer = bob.get("/api/v1/projects")
        assert answer.json["code"] == "mfa_enrolment_required"
        assert bob.get(MFA).json["required"] is True

        enrolled = Factor.enrolled(app, bob)

        assert enrolled.person.get("/api/v1/projects").status_code == 200

    def test_holds_for_who_signs_in_and_for_who_joins_later(self, app, bob, required):
        again = people.sign_in(app, email=bob.email, password=bob.password)
        late = people.join(app, bob.organization_id, role=Role.ADMIN, name="Late")

        assert again.get("/api/v1/projects").status_code == 403
        assert late.get("/api/v1/projects").status_code == 403

    def test_is_not_got_round_by_a_personal_key(self, app, bob, required):
        key = people.make_key(bob, app=app, kind="personal")

        assert key.get("/api/v1/projects").status_code == 403

    def test_stops_a_key_made_before(self, app, alice, bob):
        key = people.make_key(bob, app=app, kind="personal")
        factor = Factor.enrolled(app, alice)
        factor.person.put(f"{MFA}/policy", json={"mfa_required": True})

        assert key.get("/api/v1/projects").status_code == 403

    def test_leaves_machines_alone(self, app, required):
        key = people.make_key(required.person, app=app, kind="service", scopes=["projects:read"])

        assert key.get("/api/v1/projects").status_code == 200

    def test_is_the_owners_to_set(self, app, admin, bob):
        for person in (admin, bob):
            answer = person.put(f"{MFA}/policy", json={"mfa_required": True})
            assert answer.status_code == 403

    def test_refuses_an_owner_who_would_lock_himself_out(self, alice):
        answer = alice.put(f"{MFA}/policy", json={"mfa_required": True})

        assert answer.status_code == 409
        assert answer.json["code"] == "mfa_not_enrolled"
