"""The attacks on JWTs: each is a 401, whatever is wrong with the token."""

import base64
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from app.kit.ids import new_id

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

    def test_refuses_another_key(self, anonymous, forge):
        assert status_of(anonymous, forge(key="k" * 64)) == 401

    @pytest.mark.parametrize(
        "headers",
        [
            {"jwk": {"kty": "oct", "k": segment(b"k" * 64)}},
            {"jku": "https://example.com/keys"},
            {"x5u": "https://example.com/keys"},
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

    def test_refuses_two_tokens_in_one_header(self, anonymous, alice):
        assert status_of(anonymous, f"{alice.token}, Bearer {alice.token}") == 401
