"""The attacks on JWTs: each is a 401, whatever is wrong with the token."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.auth.challenges import Challenge, new_challenge
from app.auth.known_devices import account_key, new_device_token
from app.kit.ids import new_id
from tests.factories import people

ME = "/api/v1/auth/me"


@pytest.fixture
def forge(app, alice):
    """Make a token like Alice's with other claims, header, key or algorithm."""
    genuine = jwt.decode(alice.token, options={"verify_signature": False})

    def make(*, headers=None, key=None, algorithm="HS256", without=(), **claims):
        payload = {**genuine, **claims}
        for name in without:
            payload.pop(name)
        return jwt.encode(
            payload,
            app.config["JWT_SECRET_KEY"] if key is None else key,
            algorithm=algorithm,
            headers={"typ": "at+jwt", **(headers or {})},
        )

    return make


def segment(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def status_of(anonymous, token):
    answer = anonymous.get(ME, headers={"Authorization": f"Bearer {token}"})
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="devguard"'
        assert answer.mimetype == "application/problem+json"
    return answer.status_code


class TestReadAccessToken:
    def test_takes_a_genuine_one(self, anonymous, forge):
        assert status_of(anonymous, forge()) == 200

    @pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
    def test_refuses_no_signature(self, anonymous, alice, name):
        payload = alice.token.split(".")[1]
        header = segment({"alg": name, "typ": "at+jwt"})

        assert status_of(anonymous, f"{header}.{payload}.") == 401
        assert status_of(anonymous, f"{header}.{payload}.e30") == 401

    def test_refuses_an_empty_signature(self, anonymous, alice):
        head, payload, _ = alice.token.split(".")

        assert status_of(anonymous, f"{head}.{payload}.") == 401
        assert status_of(anonymous, f"{head}.{payload}.{segment(bytes(32))}") == 401

    @pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
    def test_refuses_another_algorithm_with_the_right_key(self, anonymous, forge, algorithm):
        assert status_of(anonymous, forge(algorithm=algorithm)) == 401

    @pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
    def test_refuses_a_signature_of_the_attackers_own_key_pair(self, anonymous, forge, algorithm):
        keys = {
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": Ed25519PrivateKey.generate(),
        }
        key = keys.get(algorithm) or rsa.generate_private_key(65537, 2048)

        assert status_of(anonymous, forge(key=key, algorithm=algorithm)) == 401

    def test_refuses_a_public_key_used_as_a_secret(self, anonymous, alice):
        public = rsa.generate_private_key(65537, 2048).public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        body = f"{segment({'alg': 'HS256', 'typ': 'at+jwt'})}.{alice.token.split('.')[1]}"

        signature = segment(hmac.digest(pem, body.encode(), "sha256"))

        assert status_of(anonymous, f"{body}.{signature}") == 401

    @pytest.mark.parametrize("name", ["RS256", "ES256", "hs256", "HS256 ", ""])
    def test_refuses_the_right_signature_under_another_name(self, app, anonymous, alice, name):
        body = f"{segment({'alg': name, 'typ': 'at+jwt'})}.{alice.token.split('.')[1]}"
        key = app.config["JWT_SECRET_KEY"].encode()

        signature = segment(hmac.digest(key, body.encode(), "sha256"))

        assert status_of(anonymous, f"{body}.{signature}") == 401

    @pytest.mark.parametrize("key", ["\0", "secret", "change-me", "0" * 64, "SECRET_KEY"])
    def test_refuses_a_weak_key_and_the_other_secret(self, app, anonymous, alice, key):
        secret = app.config.get(key, key)
        body = alice.token.rpartition(".")[0]

        signature = segment(hmac.digest(secret.encode(), body.encode(), "sha256"))

        assert status_of(anonymous, f"{body}.{signature}") == 401

    def test_refuses_zeros_for_an_elliptic_signature(self, anonymous, alice):
        # CVE-2022-21449: r and s are 0.
        payload = alice.token.split(".")[1]
        header = segment({"alg": "ES256", "typ": "at+jwt"})

        assert status_of(anonymous, f"{header}.{payload}.{segment(bytes(64))}") == 401

    def test_refuses_another_key(self, anonymous, forge):
        assert status_of(anonymous, forge(key="k" * 64)) == 401

    @pytest.mark.parametrize(
        "headers",
        [
            {"jwk": {"kty": "oct", "k": segment(b"k" * 64)}},
            {"jku": "https://example.com/keys"},
            {"x5u": "https://example.com/keys"},
            {"x5c": ["MIIB"]},
            {"kid": "0"},
            {"kid": "../../../dev/null"},
            {"kid": "' UNION SELECT 'k' --"},
        ],
    )
    def test_takes_no_key_from_the_header(self, anonymous, forge, headers):
        assert status_of(anonymous, forge(key="k" * 64, headers=headers)) == 401

    @pytest.mark.parametrize("kind", ["JWT", "rt+jwt", "", "AT+JWT "])
    def test_refuses_another_kind_of_token(self, anonymous, forge, kind):
        assert status_of(anonymous, forge(headers={"typ": kind})) == 401

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": "another"},
            {"aud": ["another"]},
            {"iss": "another"},
            {"type": "refresh"},
            {"type": None},
            {"exp": 1},
            {"exp": "soon"},
            {"exp": True},
            {"nbf": 99_999_999_999},
            {"iat": 99_999_999_999},
            {"sub": 7},
            {"sub": "nobody"},
            {"sub": ["a"]},
            {"org": "nowhere"},
            {"org": None},
            {"org": 1},
            {"sid": "nothing"},
            {"sid": {}},
            {"epoch": "0"},
            {"epoch": None},
            {"epoch": 1},
            {"epoch": 2**80},
        ],
        ids=str,
    )
    def test_refuses_wrong_claims_although_we_signed_them(self, anonymous, forge, claims):
        assert status_of(anonymous, forge(**claims)) == 401

    @pytest.mark.parametrize("name", ["sub", "org", "sid", "epoch", "aud", "iss", "exp"])
    def test_refuses_a_missing_claim(self, anonymous, forge, name):
        assert status_of(anonymous, forge(without=[name])) == 401

    @pytest.mark.parametrize("name", ["sub", "org", "sid"])
    def test_refuses_another_user_organization_or_session(self, anonymous, forge, stranger, name):
        foreign = {
            "sub": stranger.user_id,
            "org": stranger.organization_id,
            "sid": jwt.decode(stranger.token, options={"verify_signature": False})["sid"],
        }

        assert status_of(anonymous, forge(**{name: str(foreign[name])})) == 401
        assert status_of(anonymous, forge(**{name: str(new_id())})) == 401

    def test_says_when_only_the_time_is_over(self, anonymous, forge):
        past = datetime.now(UTC) - timedelta(seconds=1)

        answer = anonymous.get(ME, headers={"Authorization": f"Bearer {forge(exp=past)}"})

        assert answer.status_code == 401
        assert answer.json["code"] == "token_expired"

    @pytest.mark.parametrize(
        "token",
        [
            "x",
            ".",
            "..",
            "a.b.c",
            "a.b.c.d.e",
            "e30.e30.e30",
            "null",
            "\x7f",
            "ÿÿÿ.ÿÿÿ.ÿÿÿ",
            "a" * 1_000_000,
            "a." * 500_000,
            segment(b"[" * 1400) + ".e30.e30",
            segment(b'{"alg":' * 200) + ".e30.e30",
            segment(b"\xff\xfe") + ".e30.e30",
            segment(b"7") + ".e30.e30",
            segment(b'{"alg":"HS256","b64":false,"crit":["b64"]}') + ".e30.e30",
            segment({"alg": "dir", "enc": "A128GCM"}) + "..e30.e30.e30",
        ],
        ids=lambda token: f"{token[:12]}-{len(token)}",
    )
    def test_refuses_nonsense(self, anonymous, token):
        assert status_of(anonymous, token) == 401

    def test_refuses_the_refresh_token(self, anonymous, alice):
        assert status_of(anonymous, alice.refresh_token) == 401

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "eyJ"])
    def test_refuses_no_token_at_all(self, anonymous, header):
        assert anonymous.get(ME, headers={"Authorization": header}).status_code == 401

    def test_refuses_a_changed_payload_under_the_old_signature(self, anonymous, alice, bob):
        head, _, signature = alice.token.split(".")

        assert status_of(anonymous, f"{head}.{bob.token.split('.')[1]}.{signature}") == 401

    def test_takes_no_right_from_the_token(self, app, forge, bob):
        claims = {"role": "owner", "scopes": ["projects:write"], "scope": "projects:write"}
        own = jwt.decode(bob.token, options={"verify_signature": False})
        token = forge(sub=own["sub"], sid=own["sid"], epoch=own["epoch"], **claims)

        me = people.Caller(app.test_client(), token).get(ME).json

        assert me["role"] == "viewer"
        assert "projects:write" not in me["scopes"]

    def test_takes_the_same_signature_in_one_spelling_of_base64_only(self, anonymous, alice):
        assert status_of(anonymous, alice.token + "=") == 401
        assert status_of(anonymous, alice.token.replace(".", ". ", 1)) == 401

    @pytest.mark.parametrize("names", [("typ", "typ"), ("alg", "alg")], ids=lambda names: names[0])
    def test_reads_no_name_twice_to_its_harm(self, app, anonymous, alice, names):
        first, last = {"typ": ("JWT", "at+jwt"), "alg": ("none", "HS256")}[names[0]]
        other = '"alg":"HS256"' if names[0] == "typ" else '"typ":"at+jwt"'
        raw = f'{{{other},"{names[0]}":"{last}","{names[1]}":"{first}"}}'.encode()
        body = f"{segment(raw)}.{alice.token.split('.')[1]}"
        key = app.config["JWT_SECRET_KEY"].encode()

        signature = segment(hmac.digest(key, body.encode(), "sha256"))

        assert status_of(anonymous, f"{body}.{signature}") == 401

    def test_refuses_a_second_header_beside_the_first(self, anonymous, alice):
        headers = [("Authorization", "Bearer nonsense"), ("Authorization", f"Bearer {alice.token}")]

        assert anonymous.get(ME, headers=headers).status_code == 401

    @pytest.mark.parametrize(
        "deed",
        [
            "UPDATE sessions SET revoked_at = now(), revoked_because = 'revoked' WHERE id = :session",
            "UPDATE users SET disabled_at = now() WHERE id = :user",
            "UPDATE users SET epoch = epoch + 1 WHERE id = :user",
            "DELETE FROM sessions WHERE id = :session",
            "DELETE FROM memberships WHERE user_id = :user",
        ],
    )
    def test_ends_at_the_next_request_though_its_time_is_not_over(
        self, anonymous, bob, as_system, deed
    ):
        assert status_of(anonymous, bob.token) == 200
        named = {"session": bob.session_id, "user": bob.user_id}

        as_system(deed, **{name: value for name, value in named.items() if f":{name}" in deed})

        assert status_of(anonymous, bob.token) == 401

    def test_of_before_a_new_password_is_refused(self, anonymous, alice):
        form = {"current_password": alice.password, "new_password": "another long one"}
        assert alice.post("/api/v1/auth/change-password", json=form).status_code == 200

        assert status_of(anonymous, alice.token) == 401

    @pytest.mark.parametrize("kind", ["device", "challenge"])
    def test_refuses_our_other_tokens(self, app, anonymous, alice, kind):
        now, secret = datetime.now(UTC), app.config["SECRET_KEY"]
        account = account_key(alice.email, secret=secret)
        ticket = Challenge(alice.user_id, 0)
        tokens = {
            "device": new_device_token(account, secret=secret, now=now),
            "challenge": new_challenge(ticket, secret=secret, now=now),
        }

        assert status_of(anonymous, tokens[kind]) == 401

    def test_refuses_two_tokens_in_one_header(self, anonymous, alice):
        assert status_of(anonymous, f"{alice.token}, Bearer {alice.token}") == 401
