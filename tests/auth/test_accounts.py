"""Registering, signing in, who one is, and the password; through HTTP."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import bcrypt
import pytest

from app import create_app
from app.auth.passwords import ARGON2_MARK, PasswordHasher, mark_of
from app.auth.service import accounts
from app.auth.service.padding import forget_marks, marks_in_use
from tests.factories import people

AUTH = "/api/v1/auth"
DELETE_ORGANIZATION = (
    "UPDATE organizations SET deleted_at = now() WHERE id IN"
    " (SELECT organization_id FROM memberships WHERE user_id = :id)"
)


@pytest.fixture
def form():
    return {
        "email": people.new_email("Dora"),
        "password": "correct horse battery",
        "name": "Dora",
        "organization_name": "Dora's",
    }


class TestRegister:
    def test_answers_a_session_of_the_owner_of_a_new_organization(self, anonymous, form):
        answer = anonymous.post(f"{AUTH}/register", json=form)

        assert answer.status_code == 201
        assert answer.json["user"]["email"] == form["email"]
        assert answer.json["organization"]["name"] == "Dora's"
        assert answer.json["role"] == "owner"
        assert answer.json["token_type"] == "Bearer"
        assert answer.json["expires_in_s"] == 600
        assert answer.headers["Cache-Control"] == "no-store"

    def test_lets_one_sign_in_at_once(self, app, anonymous, form):
        anonymous.post(f"{AUTH}/register", json=form)

        dora = people.sign_in(app, email=form["email"], password=form["password"])

        assert dora.get(f"{AUTH}/me").json["user"]["name"] == "Dora"

    @pytest.mark.parametrize("change", [str.upper, str.title, lambda text: f"  {text} "])
    def test_takes_an_address_once_however_it_is_written(self, anonymous, form, change):
        anonymous.post(f"{AUTH}/register", json=form)

        answer = anonymous.post(f"{AUTH}/register", json={**form, "email": change(form["email"])})

        assert answer.status_code == 409
        assert answer.json["code"] == "email_taken"

    def test_takes_an_address_once_when_two_register_at_once(self, app, form):
        def register(_place):
            return app.test_client().post(f"{AUTH}/register", json=form).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(register, range(8)))

        assert statuses == [201] + [409] * 7

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("email", "no address"),
            ("email", "a@b@c"),
            ("email", "ä@example.com"),
            ("email", "a" * 250 + "@example.com"),
            ("email", None),
            ("email", 7),
            ("password", "short"),
            ("password", "x" * 257),
            ("password", "nul \x00 inside"),
            ("password", "aaaaaaaaaa"),
            ("password", "Dora12345"),
            ("password", "Password123"),
            ("name", ""),
            ("name", "   "),
            ("name", "x" * 201),
            ("organization_name", "\x00"),
        ],
    )
    def test_names_the_broken_rule(self, anonymous, form, field, value):
        answer = anonymous.post(f"{AUTH}/register", json={**form, field: value})

        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json["errors"]] == [f"/{field}"]

    def test_never_repeats_the_password(self, anonymous, form):
        answer = anonymous.post(f"{AUTH}/register", json={**form, "password": "zq7" * 100})

        assert answer.status_code == 422
        assert "zq7" not in answer.text

    @pytest.mark.parametrize("field", ["id", "organization_id", "role", "is_admin", "created_at"])
    def test_takes_no_other_field(self, anonymous, form, field):
        answer = anonymous.post(f"{AUTH}/register", json={**form, field: "owner"})

        assert answer.status_code == 422

    def test_is_refused_where_the_operator_registers_people(self, app, config, form):
        closed = create_app(replace(config, registration_open=False))

        answer = closed.test_client().post(f"{AUTH}/register", json=form)

        assert answer.status_code == 403
        assert answer.json["code"] == "registration_closed"
        with closed.app_context():
            closed.extensions["sqlalchemy"].engine.dispose()

    def test_stores_no_password(self, anonymous, form, as_system):
        anonymous.post(f"{AUTH}/register", json=form)

        ((row,),) = as_system(
            "SELECT u::text FROM users u WHERE email = :email", email=form["email"]
        )
        assert form["password"] not in row
        assert "bcrypt:$2b$04$" in row


class TestLogin:
    def test_opens_a_session(self, app, alice):
        again = people.sign_in(app, email=alice.email, password=alice.password)

        assert again.token != alice.token
        assert again.get(f"{AUTH}/me").status_code == 200
        assert alice.get(f"{AUTH}/me").status_code == 200

    def test_knows_the_address_in_any_case(self, app, alice):
        again = people.sign_in(app, email=alice.email.upper(), password=alice.password)

        assert again.user_id == alice.user_id

    def test_answers_a_wrong_password_as_an_unknown_and_a_disabled_person(
        self, anonymous, alice, bob, as_system
    ):
        as_system("UPDATE users SET disabled_at = now() WHERE id = :id", id=bob.user_id)
        forms = [
            {"email": alice.email, "password": "wrong password"},
            {"email": "nobody@example.com", "password": "wrong password"},
            {"email": bob.email, "password": bob.password},
        ]

        answers = [anonymous.post(f"{AUTH}/login", json=form) for form in forms]

        assert {answer.status_code for answer in answers} == {401}
        told = [{**answer.json, "request_id": None} for answer in answers]
        assert told[0] == told[1] == told[2]

    def test_hashes_once_whoever_asks(self, anonymous, alice, bob, as_system, monkeypatch):
        monkeypatch.setattr(accounts, "marks_in_use", frozenset)
        as_system("UPDATE users SET disabled_at = now() WHERE id = :id", id=bob.user_id)
        costs = []
        check = bcrypt.checkpw
        monkeypatch.setattr(
            bcrypt, "checkpw", lambda *args: costs.append(args[1][:7]) or check(*args)
        )

        for email in (alice.email, "nobody@example.com", bob.email):
            anonymous.post(f"{AUTH}/login", json={"email": email, "password": "wrong password"})

        assert costs == [b"$2b$04$"] * 3

    def test_refuses_a_person_whom_no_organization_holds(self, anonymous, bob, as_system):
        as_system("DELETE FROM memberships WHERE user_id = :id", id=bob.user_id)

        answer = anonymous.post(
            f"{AUTH}/login", json={"email": bob.email, "password": bob.password}
        )

        assert answer.status_code == 403
        assert answer.json["code"] == "no_organization"

    def test_renews_a_hash_of_another_cost(self, app, alice, as_system):
        cheap = "bcrypt:" + bcrypt.hashpw(alice.password.encode(), bcrypt.gensalt(5)).decode()
        set_hash = "UPDATE users SET password_hash = :hash WHERE id = :id"
        as_system(set_hash, hash=cheap, id=alice.user_id)

        people.sign_in(app, email=alice.email, password=alice.password)

        read = "SELECT password_hash FROM users WHERE id = :id"
        ((stored,),) = as_system(read, id=alice.user_id)
        assert stored.startswith("bcrypt:$2b$04$")
        assert people.sign_in(app, email=alice.email, password=alice.password)

    def test_renews_a_hash_of_another_scheme(self, app, alice, as_system):
        argon2 = PasswordHasher(rounds=4, secret="s" * 32, scheme="argon2id").hashed(alice.password)
        set_hash = "UPDATE users SET password_hash = :hash WHERE id = :id"
        as_system(set_hash, hash=argon2, id=alice.user_id)

        people.sign_in(app, email=alice.email, password=alice.password)

        read = "SELECT password_hash FROM users WHERE id = :id"
        ((stored,),) = as_system(read, id=alice.user_id)
        assert stored.startswith("bcrypt:$2b$04$")

    def test_hashes_by_argon2id_where_the_operator_says_so(self, app, config, alice, as_system):
        other = create_app(replace(config, password_scheme="argon2id"))

        people.sign_in(other, email=alice.email, password=alice.password)

        read = "SELECT password_hash FROM users WHERE id = :id"
        ((stored,),) = as_system(read, id=alice.user_id)
        assert stored.startswith(f"argon2id:{ARGON2_MARK}")
        forget_marks()
        with app.app_context():
            assert {ARGON2_MARK, "$2b$04$"} <= marks_in_use()
        assert people.sign_in(app, email=alice.email, password=alice.password)
        with other.app_context():
            other.extensions["sqlalchemy"].engine.dispose()

    def test_does_the_work_of_every_scheme_in_use_at_a_refusal(
        self, anonymous, alice, bob, as_system, monkeypatch
    ):
        argon2 = PasswordHasher(rounds=4, secret="s" * 32, scheme="argon2id").hashed(bob.password)
        set_hash = "UPDATE users SET password_hash = :hash WHERE id = :id"
        as_system(set_hash, hash=argon2, id=bob.user_id)
        monkeypatch.setattr(accounts, "marks_in_use", lambda: {ARGON2_MARK, "$2b$04$"})
        done = []
        match = PasswordHasher.matches
        monkeypatch.setattr(
            PasswordHasher,
            "matches",
            lambda hasher, typed, stored: (
                done[-1].append(mark_of(stored or "") or "$2b$04$") or match(hasher, typed, stored)
            ),
        )

        for email in (alice.email, bob.email, "nobody@example.com"):
            done.append([])
            anonymous.post(f"{AUTH}/login", json={"email": email, "password": "wrong password"})

        assert {tuple(sorted(marks)) for marks in done} == {("$2b$04$", ARGON2_MARK)}

    def test_survives_a_broken_hash(self, anonymous, alice, as_system):
        as_system("UPDATE users SET password_hash = 'bcrypt:?' WHERE id = :id", id=alice.user_id)

        answer = anonymous.post(
            f"{AUTH}/login", json={"email": alice.email, "password": alice.password}
        )

        assert answer.status_code == 401

    def test_takes_a_long_password_whole(self, anonymous, form):
        form["password"] = "many words, " * 20
        assert anonymous.post(f"{AUTH}/register", json=form).status_code == 201

        def login(password):
            typed = {"email": form["email"], "password": password}
            return anonymous.post(f"{AUTH}/login", json=typed).status_code

        assert login(form["password"]) == 200
        assert login(form["password"][:-1]) == 401

    def test_notes_from_where(self, anonymous, alice, as_system):
        anonymous.post(
            f"{AUTH}/login",
            json={"email": alice.email, "password": alice.password},
            headers={"User-Agent": "Firefox " + "x" * 1000},
        )

        read = "SELECT user_agent, host(ip) FROM sessions WHERE user_id = :id ORDER BY id DESC"
        agent, ip = as_system(read, id=alice.user_id)[0]
        assert agent.startswith("Firefox x")
        assert len(agent) == 300
        assert ip == "127.0.0.1"


class TestShowMe:
    def test_shows_person_organization_and_rights(self, bob, alice):
        answer = bob.get(f"{AUTH}/me")

        assert answer.json["user"] == {"id": str(bob.user_id), "email": bob.email, "name": "Bob"}
        assert answer.json["organization"]["id"] == str(alice.organization_id)
        assert answer.json["role"] == "viewer"
        assert "projects:write" not in answer.json["scopes"]

    def test_reads_the_role_anew_for_each_request(self, bob, as_system):
        as_system("UPDATE memberships SET role = 'admin' WHERE user_id = :id", id=bob.user_id)

        assert bob.get(f"{AUTH}/me").json["role"] == "admin"

    @pytest.mark.parametrize(
        "deed",
        [
            "UPDATE users SET disabled_at = now() WHERE id = :id",
            "UPDATE users SET epoch = epoch + 1 WHERE id = :id",
            "UPDATE sessions SET epoch = epoch + 1 WHERE user_id = :id",
            "UPDATE sessions SET revoked_at = now() WHERE user_id = :id",
            "UPDATE sessions SET idle_expires_at = now(), expires_at = now() WHERE user_id = :id",
            "UPDATE sessions SET idle_expires_at = now() WHERE user_id = :id",
            "DELETE FROM memberships WHERE user_id = :id",
            DELETE_ORGANIZATION,
        ],
    )
    def test_ends_with_what_it_stands_on(self, bob, as_system, deed):
        as_system(deed, id=bob.user_id)

        answer = bob.get(f"{AUTH}/me")

        assert answer.status_code == 401
        assert answer.json["code"] == "session_ended"

    def test_shows_a_personal_key_as_its_person(self, app, alice):
        key = people.make_key(alice, app=app, kind="personal")

        assert key.get(f"{AUTH}/me").json["user"]["id"] == str(alice.user_id)


class TestLogout:
    def test_ends_this_session_at_once(self, anonymous, alice):
        assert alice.post(f"{AUTH}/logout").status_code == 204

        assert alice.get(f"{AUTH}/me").status_code == 401
        form = {"refresh_token": alice.refresh_token}
        assert anonymous.post(f"{AUTH}/refresh", json=form).status_code == 401

    def test_leaves_other_sessions_alone(self, app, alice):
        other = people.sign_in(app, email=alice.email, password=alice.password)

        other.post(f"{AUTH}/logout")

        assert alice.get(f"{AUTH}/me").status_code == 200

    def test_is_not_for_keys(self, app, alice):
        key = people.make_key(alice, app=app, kind="personal")

        assert key.post(f"{AUTH}/logout").status_code == 403


class TestChangePassword:
    def change(self, person, **fields):
        form = {"current_password": person.password, "new_password": "another long one", **fields}
        return person.post(f"{AUTH}/change-password", json=form)

    def test_answers_new_credentials_for_this_session(self, app, anonymous, alice):
        answer = self.change(alice)

        assert answer.status_code == 200
        renewed = replace(alice, token=answer.json["access_token"])
        assert renewed.get(f"{AUTH}/me").status_code == 200
        form = {"refresh_token": answer.json["refresh_token"]}
        assert anonymous.post(f"{AUTH}/refresh", json=form).status_code == 200
        assert people.sign_in(app, email=alice.email, password="another long one")

    def test_ends_every_other_session_and_the_old_tokens(self, app, anonymous, alice):
        other = people.sign_in(app, email=alice.email, password=alice.password)

        answer = self.change(alice)

        for person in (alice, other):
            assert person.get(f"{AUTH}/me").status_code == 401
            form = {"refresh_token": person.refresh_token}
            assert anonymous.post(f"{AUTH}/refresh", json=form).status_code == 401
        renewed = replace(alice, token=answer.json["access_token"])
        assert renewed.get(f"{AUTH}/me").status_code == 200

    def test_ends_the_sessions_of_other_organizations(self, app, alice, stranger, as_system):
        as_system(
            "INSERT INTO memberships VALUES (:organization, :user, 'owner', now())",
            organization=stranger.organization_id,
            user=alice.user_id,
        )
        as_system(
            "UPDATE memberships SET created_at = created_at - :ago"
            " WHERE user_id = :user AND organization_id = :organization",
            ago=timedelta(days=9),
            user=alice.user_id,
            organization=stranger.organization_id,
        )
        elsewhere = people.sign_in(app, email=alice.email, password=alice.password)
        assert elsewhere.organization_id == stranger.organization_id

        self.change(alice)

        assert elsewhere.get(f"{AUTH}/me").status_code == 401

    def test_needs_the_current_password(self, alice):
        answer = self.change(alice, current_password="wrong password")

        assert answer.status_code == 403
        assert answer.json["code"] == "wrong_password"
        assert alice.get(f"{AUTH}/me").status_code == 200

    @pytest.mark.parametrize("new", ["short", "x" * 300, "aaaaaaaaaaaa", "Alice123"])
    def test_refuses_an_easy_password(self, alice, new):
        answer = self.change(alice, new_password=new)

        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "/new_password"

    def test_is_not_for_keys(self, app, alice):
        key = people.make_key(alice, app=app, kind="personal")

        answer = key.post(f"{AUTH}/change-password", json={})

        assert answer.status_code == 403
