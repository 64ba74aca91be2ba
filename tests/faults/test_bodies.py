"""Bodies that nobody should send, on real connections: refused by name, and the server is well afterwards."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.books import REQUESTS, Books, Tenant, as_batch
from tests.faults.product import ANSWERED_WITHIN_S, Answer, Product, at_once, read_answer, wait_for

pytestmark = pytest.mark.faults

MEGABYTE = 1_000_000
NDJSON = "application/x-ndjson"
# Loose: one batch of 10 MB takes some 100 MB while it is read, and Python keeps some of it.
MOST_GROWTH_BYTES = 400 * MEGABYTE


@pytest.fixture(scope="module")
def tenant(running: Product) -> Tenant:
    return Tenant.register(running)


@pytest.fixture(scope="module")
def books() -> Books:
    return Books()


@pytest.fixture(autouse=True)
def well_afterwards(product: Product, tenant: Tenant, books: Books) -> Iterator[None]:
    """After each test the same web workers run, take what is right, and have kept nothing else."""
    workers, (count, cost) = product.web_workers(), tenant.totals()
    known_cost = books.totals[1]
    yield
    assert tenant.log(books.batch(10)).status == 201
    assert tenant.totals() == (count + 10, cost + books.totals[1] - known_cost)
    assert tenant.stored()[0] == count + 10
    assert product.web_workers() == workers


def call(**changes: Any) -> bytes:
    """Return one call as JSON; a change to None leaves the field out."""
    whole = {
        "id": "call-1",
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "provider": "openai",
        "request_model": "gpt-4o",
        "usage": {"input_tokens": 10, "output_tokens": 5},
        **changes,
    }
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def bomb(size: int) -> bytes:
    return gzip.compress(bytes(size), compresslevel=1)


def send_chunked(product: Product, tenant: Tenant, body: bytes) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", product.port, timeout=ANSWERED_WITHIN_S)
    headers = {
        "Authorization": f"Bearer {tenant.ingest_key}",
        "Content-Type": "application/json",
        "Connection": "close",
    }
    pieces = (body[first : first + 65_536] for first in range(0, len(body), 65_536))
    began = time.monotonic()
    try:
        connection.request("POST", REQUESTS, pieces, headers, encode_chunked=True)
        return read_answer(connection.getresponse(), began)
    finally:
        connection.close()


def send_raw(product: Product, data: bytes, *, then: str = "half-close") -> bytes:
    """Send bytes, end or break the connection; return what comes back."""
    with product.connect() as connection:
        connection.sendall(data)
        if then == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        if then == "half-close":
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            return answer.read()


class TestLogRequests:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            pytest.param(call(usage={"input_tokens": float("nan")}), "json_invalid", id="NaN"),
            pytest.param(call(duration_ms=float("inf")), "json_invalid", id="Infinity"),
            pytest.param(call(duration_ms=1).replace(b": 1}", b": 1e999}"), None, id="1e999"),
            pytest.param(call(usage={"input_tokens": -1}), None, id="negative tokens"),
            pytest.param(
                call(usage={"input_tokens": 1, "cache_read_input_tokens": 2}),
                None,
                id="more tokens from the cache than tokens",
            ),
            pytest.param(call(started_at="0001-01-01T00:00:00Z"), "too_old", id="year 1"),
            pytest.param(
                call(started_at="9999-12-31T23:59:59.999999Z"), "in_the_future", id="year 9999"
            ),
            pytest.param(
                call(started_at="0001-01-01T00:00:00+14:00"), "invalid_time", id="before year 1"
            ),
            pytest.param(
                call(started_at="9999-12-31T23:59:59-14:00"), "invalid_time", id="after year 9999"
            ),
            pytest.param(call(prompt="Hello"), "extra_forbidden", id="unknown field"),
            pytest.param(call(usage={"input_tokens": "ten"}), None, id="wrong type"),
            pytest.param(
                call(provider="openai").replace(b"openai", b"open\xff\xfe"),
                "json_invalid",
                id="invalid UTF-8",
            ),
            pytest.param(call(provider="open\x00ai"), "string_pattern_mismatch", id="escaped NUL"),
            pytest.param(call().replace(b"openai", b"open\x00ai"), "json_invalid", id="bare NUL"),
            pytest.param(
                call().replace(b"openai", b"open\\ud800ai"), "json_invalid", id="half a character"
            ),
            pytest.param(b"[" * 5 * MEGABYTE, "json_invalid", id="deeply nested"),
            pytest.param(b"", "json_invalid", id="nothing"),
            pytest.param(call()[:-20], "json_invalid", id="half a call"),
        ],
    )
    def test_refuses_a_call_that_breaks_a_rule(self, tenant, body, code):
        answer = tenant.log(body)

        assert (answer.status, answer.code) == (422, "invalid_payload")
        codes = {fault["code"] for fault in answer.json["errors"]}
        assert codes
        assert code is None or code in codes

    def test_refuses_5001_calls(self, tenant):
        answer = tenant.log(Books().batch(5_001))

        assert (answer.status, answer.code) == (422, "invalid_payload")
        assert [fault["pointer"] for fault in answer.json["errors"]] == ["/requests"]

    @pytest.mark.parametrize(
        ("body", "headers", "status", "code"),
        [
            pytest.param(
                bytes(11 * MEGABYTE), {}, 413, "payload_too_large", id="11 MB"
            ),
            pytest.param(
                bomb(100 * MEGABYTE),
                {"Content-Encoding": "gzip"},
                413,
                "payload_too_large",
                id="gzip bomb",
            ),
            pytest.param(
                bomb(9 * MEGABYTE),
                {"Content-Encoding": "gzip"},
                413,
                "payload_too_large",
                id="gzip bomb that would fit",
            ),
            pytest.param(
                bomb(MEGABYTE)[:-10],
                {"Content-Encoding": "gzip"},
                400,
                "broken_gzip",
                id="cut gzip",
            ),
            pytest.param(call(), {"Content-Encoding": "gzip"}, 400, "broken_gzip", id="no gzip"),
            pytest.param(
                call(), {"Content-Encoding": "br"}, 415, "unsupported_media_type", id="brotli"
            ),
            pytest.param(
                call(), {"Content-Type": "text/csv"}, 415, "unsupported_media_type", id="CSV"
            ),
        ],
    )  # fmt: skip
    def test_refuses_a_body_that_it_does_not_read(self, tenant, body, headers, status, code):
        answer = tenant.log(body, **headers)

        assert (answer.status, answer.code) == (status, code)

    def test_refuses_eleven_megabytes_in_chunks(self, product, tenant):
        answer = send_chunked(product, tenant, bytes(11 * MEGABYTE))

        assert (answer.status, answer.code) == (413, "payload_too_large")

    def test_tells_a_stranger_with_a_large_body_why_he_is_refused(self, product):
        answer = product.ask("POST", REQUESTS, bytes(11 * MEGABYTE), token="dgi_nobody")

        assert (answer.status, answer.code) == (401, "invalid_api_key")

    @pytest.mark.parametrize("then", ["half-close", "reset"])
    @pytest.mark.parametrize("framing", ["length", "chunk", "chunks", "no end of chunk"])
    def test_keeps_nothing_of_a_body_that_is_cut(self, product, tenant, framing, then):
        lines = [json.dumps(item) for item in json.loads(Books().batch(20))["requests"]]
        whole, front = ("\n".join([*part, ""]).encode() for part in (lines, lines[:10]))
        sent = {
            "length": (f"Content-Length: {len(whole)}", front),
            "chunk": ("Transfer-Encoding: chunked", b"%x\r\n%b" % (len(whole), front)),
            "chunks": ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(front), front)),
            "no end of chunk": ("Transfer-Encoding: chunked", b"%x\r\n%b" % (len(front), front)),
        }
        head, body = sent[framing]

        answer = send_raw(product, tenant.raw_head(head, media_type=NDJSON) + body, then=then)

        if then == "half-close":
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b'"broken_body"' in answer

    @pytest.mark.parametrize(
        "body", [b"ZZZ\r\nabc\r\n", b"3\r\nabcXX", b"-1\r\n", b"3;\x01\r\nabc\r\n"]
    )
    def test_refuses_chunks_that_are_none(self, product, tenant, body):
        answer = send_raw(product, tenant.raw_head("Transfer-Encoding: chunked") + body)

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"broken_body"' in answer

    def test_does_not_wait_for_the_rest_of_a_body_that_it_refuses(self, product, tenant):
        head = tenant.raw_head(f"Content-Length: {MEGABYTE}", key="dgi_nobody")

        answer = send_raw(product, head + bytes(1_000), then="wait")

        assert answer.startswith(b"HTTP/1.1 401 ")

    def test_does_not_grow_with_what_it_refuses(self, product, tenant):
        bad_item = {f"unknown_{number}": number for number in range(10)}
        hostile: list[Callable[[], Answer]] = [
            lambda: tenant.log(bytes(11 * MEGABYTE)),
            lambda: send_chunked(product, tenant, bytes(11 * MEGABYTE)),
            lambda: tenant.log(bomb(100 * MEGABYTE), **{"Content-Encoding": "gzip"}),
            lambda: tenant.log(b'{"requests":[' + b"1," * 4_500_000 + b"1]}"),
            lambda: tenant.log(b"[" * 5 * MEGABYTE),
            lambda: tenant.log(b"1\n" * 4 * MEGABYTE, **{"Content-Type": NDJSON}),
            lambda: tenant.log(as_batch([bad_item] * 1_000)),
            lambda: tenant.log(call(tags={"note": "x" * 9 * MEGABYTE})),
        ]
        assert {answer.status for answer in at_once(*hostile)} == {413, 422}
        before = memory_of_web(product)

        for _ in range(2):
            assert {answer.status for answer in at_once(*hostile)} == {413, 422}

        wait_for(
            lambda: memory_of_web(product) < before + MOST_GROWTH_BYTES,
            20,
            what=f"no more than {MOST_GROWTH_BYTES} bytes above {before}",
        )


def memory_of_web(product: Product) -> int:
    return sum(int(worker.memory_full_info().pss) for worker in product.web_workers())
