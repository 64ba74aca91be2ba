"""What a declared route does before and after its handler: body, credential, scope, transaction."""

from __future__ import annotations

import gzip
import io
import json
import zlib

import pytest
from werkzeug.test import create_environ, run_wsgi_app

from app.kit.actor import Actor, ActorKind
from app.kit.endpoint import REGISTRY
from app.kit.errors import Unauthorized
from app.kit.ids import new_id
from app.kit.tenancy import enter_organization
from tests.kit.probe_routes import SMALL_LIMIT

JSON = "application/json"
BODY = b'{"name": "Ada"}'


@pytest.fixture
def post(probe):
    def send(raw: bytes, *, content_type: str = JSON, encoding: str | None = None, **options):
        headers = {"Content-Encoding": encoding} if encoding else {}
        return probe.post(
            "/probe/things", data=raw, content_type=content_type, headers=headers, **options
        )

    return send


class TestContentType:
    @pytest.mark.parametrize(
        "content_type", [JSON, f"{JSON}; charset=utf-8", f"{JSON};charset=UTF-8"]
    )
    def test_is_json_in_utf_8(self, post, content_type):
        assert post(BODY, content_type=content_type).status_code == 201

    @pytest.mark.parametrize(
        "content_type",
        [
            "",
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "application/jsonx",
            "application/*",
            "multipart/form-data; boundary=x",
            f"{JSON}; charset=latin-1",
        ],
    )
    def test_is_refused_otherwise(self, post, content_type):
        assert post(BODY, content_type=content_type).status_code == 415


class TestContentEncoding:
    def test_may_be_gzip(self, post):
        answer = post(gzip.compress(BODY), encoding="gzip")

        assert answer.json["name"] == "Ada"

    @pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip", "x"])
    def test_is_refused_otherwise(self, post, encoding):
        assert post(zlib.compress(BODY), encoding=encoding).status_code == 415

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            BODY,
            gzip.compress(BODY)[:-1],
            gzip.compress(BODY)[:12],
            gzip.compress(BODY) + b"x",
            gzip.compress(BODY) + gzip.compress(BODY),
            gzip.compress(BODY)[:-8] + b"\x00" * 8,
            zlib.compress(BODY),
        ],
        ids=["empty", "plain", "cut", "cut early", "trailing", "two members", "wrong sum", "zlib"],
    )
    def test_refuses_a_broken_stream(self, post, raw):
        answer = post(raw, encoding="gzip")

        assert (answer.status_code, answer.json["code"]) == (400, "broken_gzip")

    @pytest.mark.parametrize("size", [SMALL_LIMIT + 1, 50_000_000])
    def test_refuses_a_bomb_above_the_limit(self, post, size):
        bomb = gzip.compress(b" " * size)
        assert len(bomb) < 100_000

        assert post(bomb, encoding="gzip").status_code == 413

    def test_refuses_a_bomb_below_the_limit_by_its_ratio(self, post):
        bomb = gzip.compress(b'{"name": "Ada"' + b" " * 2_000_000 + b"}")

        answer = post(bomb, encoding="gzip")

        assert answer.status_code == 413
        assert "200 times" in answer.json["detail"]


class TestBodyLimit:
    def test_takes_what_just_fits(self, post):
        body = BODY.ljust(SMALL_LIMIT)

        assert post(body).status_code == 201

    def test_refuses_one_byte_more(self, post):
        assert post(BODY.ljust(SMALL_LIMIT + 1)).status_code == 413

    @pytest.mark.parametrize(("size", "status"), [(SMALL_LIMIT, 201), (SMALL_LIMIT + 1, 413)])
    def test_counts_what_comes_in_pieces_and_has_no_length(self, jobs_app, size, status):
        """Chunked: the server says only that the stream ends by itself."""
        environ = create_environ("/probe/things", method="POST", content_type=JSON)
        environ |= {"wsgi.input": Trickle(BODY.ljust(size)), "wsgi.input_terminated": True}
        environ.pop("CONTENT_LENGTH", None)

        answer = run_wsgi_app(jobs_app.wsgi_app, environ)

        assert answer[1].startswith(str(status))


class Trickle(io.RawIOBase):
    """A stream that gives less than it is asked for, as a socket does."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        chunk = self._content.read(min(len(buffer), 65_000))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class TestCredential:
    @pytest.fixture
    def scopes(self, monkeypatch):
        """The scopes of whoever sends the token `valid`."""
        held: set[str] = set()

        def authenticate(token: str) -> Actor:
            if token != "valid":
                raise Unauthorized("unknown token")
            organization_id = new_id()
            enter_organization(organization_id)
            return Actor(
                kind=ActorKind.USER,
                organization_id=organization_id,
                user_id=new_id(),
                api_key_id=None,
                session_id=None,
                role="viewer",
                scopes=frozenset(held),
                project_id=None,
                label="someone",
            )

        monkeypatch.setattr(REGISTRY, "authenticator", authenticate)
        return held

    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "valid", "Bearer x"]
    )
    def test_is_required(self, probe, scopes, header):
        headers = {} if header is None else {"Authorization": header}

        assert probe.get("/probe/numbers", headers=headers).status_code == 401

    def test_without_the_scope_is_refused_by_its_name(self, probe, scopes):
        answer = probe.get("/probe/numbers", headers={"Authorization": "Bearer valid"})

        assert (answer.status_code, answer.json["code"]) == (403, "missing_scope")
        assert "probe:read" in answer.json["detail"]

    def test_with_the_scope_is_served_and_never_cached(self, probe, scopes):
        scopes.add("probe:read")
        answer = probe.get("/probe/numbers", headers={"Authorization": "bearer  valid "})

        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"

    def test_does_not_outlive_its_request(self, probe, scopes):
        scopes.add("probe:read")
        for _ in range(2):
            # A second organization in the same thread would be refused if the first were kept.
            answer = probe.get("/probe/numbers", headers={"Authorization": "Bearer valid"})
            assert answer.status_code == 200

    def test_is_asked_for_before_the_arguments_are_judged(self, probe, scopes):
        assert probe.get("/probe/numbers?limit=x").status_code == 401


class TestTransaction:
    def test_is_committed_before_the_answer(self, probe, records):
        answer = probe.post("/probe/notes/written")

        assert answer.status_code == 200
        assert records.starts("written") == 1

    def test_is_rolled_back_with_the_refusal(self, probe, records):
        answer = probe.post("/probe/notes/refused-broken")

        assert answer.status_code == 409
        assert records.starts("refused") == 0


class TestAnswer:
    def test_of_a_deletion_is_empty(self, probe):
        answer = probe.delete(f"/probe/things/{new_id()}")

        assert (answer.status_code, answer.data) == (204, b"")

    def test_is_of_the_declared_model(self, probe):
        thing_id = new_id()
        answer = probe.get(f"/probe/things/{thing_id}")

        assert json.loads(answer.data) == {"name": str(thing_id), "count": 1, "moment": None}

    def test_of_another_model_is_our_fault(self, probe):
        assert probe.get("/probe/wrong-view").status_code == 500

    def test_to_head_has_the_headers_alone(self, probe):
        answer = probe.head(f"/probe/things/{new_id()}")

        assert (answer.status_code, answer.data) == (200, b"")
        assert answer.content_type == JSON
