from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.kit import outbound
from app.kit.outbound import Limits, OutboundFailed, OutboundPolicy, OutboundRefused, resolving
from config import Config, ConfigError

ROOT = Path(__file__).parents[2]
LOOPBACK = OutboundPolicy(
    allowed=(ip_network("127.0.0.0/8"), ip_network("::1/128")), ports=outbound.ANY_PORT
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """A real server on loopback that does what the test says with each connection."""

    respond: Callable[[socket.socket, bytes], None]
    context: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept)]
        self.stopped = threading.Event()
        if self.context is not None:
            self.context.sni_callback = lambda _tls, name, _context: self.names.append(name)
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            if self.stopped.is_set():
                connection.close()
                return
            self.threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self.threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.settimeout(5)
            served = connection
            if self.context is not None:
                served = self.context.wrap_socket(connection, server_side=True)
            with contextlib.closing(served):
                request = self._request(served)
                self.requests.append(request)
                self.respond(served, request)
                if self.context is not None:
                    served.unwrap()

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += Server._more(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += Server._more(connection)
        return head + b"\r\n\r\n" + body

    @staticmethod
    def _more(connection: socket.socket) -> bytes:
        received = connection.recv(65536)
        if not received:
            raise ConnectionResetError
        return received

    def stop(self) -> None:
        self.stopped.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self.threads:
            thread.join(timeout=10)
        self.listener.close()

    def url(self, host: str = "receiver.example", path: str = "/") -> str:
        scheme = "http" if self.context is None else "https"
        return f"{scheme}://{host}:{self.port}{path}"


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start a server that answers with these bytes, or as the function does."""
    started: list[Server] = []

    def start(answer: bytes | Callable = OK, **options) -> Server:
        def send(connection: socket.socket, _request: bytes) -> None:
            connection.sendall(answer)

        respond = send if isinstance(answer, bytes) else answer
        started.append(Server(respond, **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@dataclass
class Names:
    """A name server that gives one answer after the other, and counts how often it was asked."""

    answers: list[list[str]]
    asked: int = 0

    def __call__(self, _name: str) -> list[str]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def resolving_to(*answers: list[str], **changes) -> OutboundPolicy:
    return replace(LOOPBACK, resolver=Names(list(answers)), **changes)


HERE = resolving_to(["127.0.0.1"])


def failure(url: str, *, policy: OutboundPolicy = HERE, method="GET", **options) -> OutboundFailed:
    """Send a request that must come to nothing; return why."""
    with pytest.raises(OutboundFailed) as failed:
        outbound.request(method, url, policy=policy, **options)
    return failed.value


class TestRequest:
    def test_sends_method_headers_and_body_to_the_checked_address(self, serve):
        server = serve(b"HTTP/1.1 201 Created\r\nX-Note: a\r\nContent-Length: 2\r\n\r\n{}")

        answer = outbound.request(
            "POST",
            server.url(path="/hook?x=1"),
            headers={"Content-Type": "application/json", "webhook-id": "msg_1"},
            body=b'{"a": 1}',
            policy=HERE,
        )

        assert (answer.status, answer.body, answer.json()) == (201, b"{}", {})
        assert answer.header("X-Note") == "a"
        assert answer.header("X-Other") is None
        assert answer.address == "127.0.0.1"
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"POST /hook?x=1 HTTP/1.1",
            f"Host: receiver.example:{server.port}".encode(),
            b"Connection: close",
            b"Accept-Encoding: identity",
            b"User-Agent: DevGuard",
            b"Content-Length: 8",
            b"Content-Type: application/json",
            b"webhook-id: msg_1",
        ]
        assert body == b'{"a": 1}'

    @pytest.mark.parametrize(
        ("answer", "body"),
        [
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n", b"ok!"),
            (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK, b"ok"),
        ],
    )  # fmt: skip
    def test_reads_every_framing(self, serve, answer, body):
        assert outbound.request("GET", serve(answer).url(), policy=HERE).body == body

    def test_reads_no_body_of_a_head(self, serve):
        server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")

        assert outbound.request("HEAD", server.url(), policy=HERE).body == b""

    def test_sends_a_large_body_whole(self, serve):
        server, body = serve(), os.urandom(1_000_000)

        outbound.request("PUT", server.url(), body=body, policy=HERE)

        assert server.requests[0].endswith(body)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_returns_a_redirect_and_never_follows_it(self, serve, status):
        secret = serve()
        location = f"http://127.0.0.1:{secret.port}/latest/meta-data/"
        server = serve(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())  # fmt: skip

        answer = outbound.request("GET", server.url(), policy=HERE)

        assert (answer.status, answer.header("location")) == (status, location)
        assert secret.requests == []

    def test_never_decompresses(self, serve):
        server = serve(OK.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"))

        assert outbound.request("GET", server.url(), policy=HERE).body == b"ok"

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_ignores_the_proxy_of_the_environment(self, serve, monkeypatch, name):
        proxy, server = serve(), serve()
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")

        outbound.request("GET", server.url(), policy=HERE)

        assert (len(proxy.requests), len(server.requests)) == (0, 1)

    @pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection", "Expect", "TE"])  # fmt: skip
    def test_lets_nobody_set_what_frames_the_message(self, serve, name):
        with pytest.raises(OutboundRefused) as refusal:
            outbound.request("POST", serve().url(), headers={name: "x"}, policy=HERE)

        assert refusal.value.code == "outbound_header"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X-A", "a\r\nX-Evil: 1"), ("X-A", "a\n"), ("X-A", "\0"), ("X-A", "é"), ("X-A", " a"),
            ("X-A: b\r\nX", "a"), ("", "a"), ("X A", "a"), ("X-É", "a"), ("X-A", "a\x7f"),
        ],
    )  # fmt: skip
    def test_refuses_headers_that_could_split_the_message(self, serve, name, value):
        server = serve()
        with pytest.raises(OutboundRefused) as refusal:
            outbound.request("POST", server.url(), headers={name: value}, policy=HERE)

        assert refusal.value.code == "outbound_header"
        assert "Evil" not in refusal.value.detail
        assert server.requests == []

    @pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "get", "GET / HTTP/1.1\r\n"])
    def test_refuses_other_methods(self, serve, method):
        with pytest.raises(OutboundRefused) as refusal:
            outbound.request(method, serve().url(), policy=HERE)

        assert refusal.value.code == "outbound_method"

    def test_refuses_a_body_where_there_is_none(self):
        with pytest.raises(OutboundRefused) as refusal:
            outbound.request("GET", "http://a.example/", body=b"x", policy=HERE)

        assert refusal.value.code == "outbound_body"

    def test_says_when_the_answer_is_no_json(self, serve):
        for body in (b"<!", b"[" * 100_000, b"\xff", b""):
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            response = outbound.request("GET", serve(answer).url(), policy=HERE)
            with pytest.raises(OutboundFailed) as failed:
                response.json()

            assert failed.value.code == "outbound_not_json"


class TestWhereTo:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:169.254.169.254]", "[::]", "0.0.0.0",
            "[64:ff9b::7f00:1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[fd00:ec2::254]", "[::127.0.0.1]",
        ],
    )  # fmt: skip
    def test_is_never_an_address_that_is_not_public(self, host):
        with pytest.raises(OutboundRefused) as refusal:
            outbound.request("GET", f"http://{host}/", policy=OutboundPolicy())

        assert refusal.value.code == "outbound_address"
        assert host.strip("[]") not in refusal.value.detail

    def test_is_never_a_name_for_such_an_address(self):
        for address in ("127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1%eth0"):
            policy = OutboundPolicy(resolver=Names([[address]]))
            with pytest.raises(OutboundRefused) as refusal:
                outbound.request("GET", "http://rebound.example/", policy=policy)

            assert refusal.value.code == "outbound_address"
            # Whoever asks learns nothing of the networks behind us.
            assert address not in refusal.value.detail

    def test_is_judged_by_all_addresses(self, serve):
        server = serve()
        for mixed in (["127.0.0.1", "169.254.169.254"], ["10.0.0.1", "127.0.0.1"]):
            with pytest.raises(OutboundRefused) as refusal:
                outbound.request("GET", server.url(), policy=resolving_to(mixed))

            assert refusal.value.code == "outbound_address"
        assert server.requests == []

    def test_is_the_checked_address_however_the_name_changes(self, serve):
        server = serve()
        policy = resolving_to(["127.0.0.1"], ["169.254.169.254"])

        answer = outbound.request("GET", server.url(), policy=policy)

        assert (answer.status, answer.address, policy.resolver.asked) == (200, "127.0.0.1", 1)
        with pytest.raises(OutboundRefused):
            outbound.request("GET", server.url(), policy=policy)

    def test_is_one_of_the_listed_ports(self, serve):
        server, policy = serve(), replace(HERE, ports=((80, 80), (443, 443)))

        with pytest.raises(OutboundRefused) as refusal:
            outbound.request("GET", server.url(), policy=policy)

        assert refusal.value.code == "outbound_port"
        assert (server.requests, policy.resolver.asked) == ([], HERE.resolver.asked)

    def test_is_the_next_address_when_one_does_not_answer(self, serve):
        server = serve()
        # Nobody listens on the other loopback address at this port.
        policy = resolving_to(["127.0.0.2", "127.0.0.1"])

        answer = outbound.request("GET", server.url(), policy=policy)

        assert answer.address == "127.0.0.1"

    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_works_for_listed_addresses(self, address):
        listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)  # fmt: skip
        with contextlib.closing(listener):
            host = f"[{address}]" if ":" in address else address
            url = f"http://{host}:{listener.getsockname()[1]}/"
            failed = failure(url, limits=Limits(total_s=0.2), policy=LOOPBACK)

        # It accepts connections and says nothing.
        assert failed.code == "outbound_timeout"

    def test_says_when_nobody_is_there(self):
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
            port = listener.getsockname()[1]

        failed = failure(f"http://127.0.0.1:{port}/", policy=LOOPBACK)

        assert (failed.code, failed.status) == ("outbound_connection", 502)

    def test_says_when_the_name_is_unknown(self):
        def nowhere(_name):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        for resolver in (nowhere, Names([[]])):
            policy = replace(LOOPBACK, resolver=resolver)

            assert failure("http://nowhere.example:80/", policy=policy).code == "outbound_dns"


class TestTime:
    LIMITS = Limits(connect_s=0.3, total_s=0.5)

    def timed_out(self, url: str, policy: OutboundPolicy = HERE, **arguments) -> float:
        began = time.monotonic()
        failed = failure(url, method="POST", limits=self.LIMITS, policy=policy, **arguments)

        assert failed.code == "outbound_timeout"
        return time.monotonic() - began

    @pytest.mark.parametrize("drip", [b"HTTP/1.1 200 OK\r\nX-A: ", OK.replace(b": 2", b": 9999")])
    def test_ends_a_slow_drip(self, serve, drip):
        def respond(connection, _request):
            connection.sendall(drip)
            # Each byte comes well before any timeout of a single read.
            for _ in range(60):
                connection.sendall(b"a")
                time.sleep(0.05)

        assert self.timed_out(serve(respond).url()) < 2

    def test_ends_a_server_that_reads_nothing(self):
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
            url = f"http://receiver.example:{listener.getsockname()[1]}/"

            assert self.timed_out(url, body=os.urandom(20_000_000)) < 2

    def test_ends_a_tls_handshake_that_drips(self, authority):
        def drip(listener: socket.socket) -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with contextlib.closing(connection):
                    # A record of 16 kB that comes byte by byte.
                    connection.sendall(b"\x16\x03\x03\x40\x00")
                    for _ in range(60):
                        connection.sendall(b"\x02")
                        time.sleep(0.05)

        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
            listener.settimeout(5)
            thread = threading.Thread(target=drip, args=(listener,))
            thread.start()
            url = f"https://receiver.example:{listener.getsockname()[1]}/"
            took = self.timed_out(url, policy=replace(HERE, ca_file=authority.file))
            thread.join()

        # The connection has less time than the whole.
        assert took < 0.5

    def test_ends_a_slow_name_server(self):
        slow = threading.Event()

        def resolver(_name):
            slow.wait(5)
            return ["127.0.0.1"]

        took = self.timed_out(
            "http://slow.example:80/", policy=replace(LOOPBACK, resolver=resolver)
        )
        slow.set()

        assert took < 0.5


class TestSize:
    @staticmethod
    def endless(head: bytes, chunk: bytes):
        def respond(connection, _request):
            connection.sendall(head)
            while True:
                connection.sendall(chunk)

        return respond

    @pytest.mark.parametrize(
        ("head", "chunk"),
        [
            (b"HTTP/1.0 200 OK\r\n\r\n", b"a" * 4096),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"a" * 4096),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"a" * 4096 + b"\r\n"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 900 + b"\r\na\r\n"),
            (b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 4096 + b"\r\n"),
            (b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 4096),
            (b"", b"a" * 4096),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        ],
        ids=["body", "announced", "chunks", "extensions", "headers", "header", "status", "continue"],
    )  # fmt: skip
    def test_of_the_answer_is_bounded(self, serve, head, chunk):
        server = serve(self.endless(head, chunk))

        limits = Limits(body_bytes=100_000, total_s=8)

        assert failure(server.url(), limits=limits).code == "outbound_too_large"

    def test_of_headers_that_come_at_once_is_bounded(self, serve):
        lines = b"".join(b"X-%d: %s\r\n" % (place, b"a" * 90) for place in range(20))
        server = serve(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 0\r\n\r\n")

        failed = failure(server.url(), limits=Limits(header_bytes=1000))

        assert failed.code == "outbound_too_large"

    def test_may_be_cut_where_the_status_is_enough(self, serve):
        server = serve(self.endless(b"HTTP/1.0 200 OK\r\n\r\n", b"a" * 4096))
        limits = Limits(body_bytes=10_000)

        answer = outbound.request("GET", server.url(), limits=limits, cuts_body=True, policy=HERE)

        assert (answer.status, len(answer.body), answer.is_cut) == (200, 10_000, True)

    def test_just_fits(self, serve):
        body = b"a" * 10_000
        server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + body)

        answer = outbound.request(
            "GET", server.url(), limits=Limits(body_bytes=10_000), policy=HERE
        )

        assert (answer.body, answer.is_cut) == (body, False)


class TestBrokenAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"-ERR unknown command\r\n\r\n", b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"HTTP/9.9 2000 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX\0: a\r\n\r\n",
        ],
    )  # fmt: skip
    def test_are_no_answers(self, serve, answer):
        failed = failure(serve(answer).url())

        assert failed.code in {"outbound_protocol", "outbound_connection"}


@dataclass
class Authority:
    """A certificate authority of this test's own."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))  # fmt: skip

    def __post_init__(self) -> None:
        self.certificate = self._sign("Test authority", self.key, [], issuer=None)
        path = self.folder / "authority.pem"
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.file = str(path)

    def context(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """Return what a server with a certificate for these names needs."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        certificate = self._sign(names[0], key, alternatives, issuer=self.certificate, days=days)
        path = self.folder / f"{names[0]}-{days}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _sign(self, name, key, alternatives, *, issuer, days=1) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=9))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(
                x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True
            )
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class TestTls:
    def test_verifies_the_name_and_sends_it(self, serve, authority):
        server = serve(context=authority.context("receiver.example"))
        policy = replace(HERE, ca_file=authority.file)

        body = os.urandom(300_000)
        answer = outbound.request("POST", server.url(), body=body, policy=policy)

        assert (answer.status, answer.body) == (200, b"ok")
        assert server.names == ["receiver.example"]
        assert f"Host: receiver.example:{server.port}".encode() in server.requests[0]
        assert server.requests[0].endswith(body)

    def test_verifies_an_address(self, serve, authority):
        server = serve(context=authority.context("127.0.0.1"))
        policy = replace(LOOPBACK, ca_file=authority.file)

        assert outbound.request("GET", server.url("127.0.0.1"), policy=policy).status == 200

    @pytest.mark.parametrize(
        ("names", "days"),
        [(("other.example",), 1), (("127.0.0.1",), 1), (("receiver.example",), -1)],
    )
    def test_refuses_a_wrong_name_and_an_expired_certificate(self, serve, authority, names, days):
        server = serve(context=authority.context(*names, days=days))

        failed = failure(server.url(), policy=replace(HERE, ca_file=authority.file))

        assert failed.code == "outbound_certificate"
        assert server.requests == []

    def test_refuses_an_unknown_authority(self, serve, authority):
        server = serve(context=authority.context("receiver.example"))

        assert failure(server.url()).code == "outbound_certificate"
        assert server.requests == []

    def test_refuses_old_versions(self, serve, authority):
        context = authority.context("receiver.example")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        server = serve(context=context)

        failed = failure(server.url(), policy=replace(HERE, ca_file=authority.file))

        assert failed.code == "outbound_tls"

    def test_notices_an_answer_that_is_cut_off(self, serve, authority):
        def cut(connection, _request):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhalf of it")
            # No close_notify: anybody on the way can do that.
            socket.socket(fileno=connection.detach()).close()

        server = serve(cut, context=authority.context("receiver.example"))

        failed = failure(server.url(), policy=replace(HERE, ca_file=authority.file))

        assert failed.code == "outbound_tls"

    def test_refuses_plain_text(self, serve):
        server = serve()

        failed = failure(server.url().replace("http:", "https:"), limits=Limits(connect_s=0.3))

        # The server waits for the end of what it takes for a request.
        assert failed.code in {"outbound_tls", "outbound_timeout"}
        assert server.requests == []


class TestCheckedAddress:
    def test_gives_what_libpq_needs(self):
        policy = resolving_to(["127.0.0.1", "::1"])

        checked = outbound.checked_address(
            "DB.example", 5432, ports=outbound.ANY_PORT, policy=policy
        )

        assert (checked.host.name, checked.port) == ("db.example", 5432)
        assert (checked.address, checked.addresses) == ("127.0.0.1", ("127.0.0.1", "::1"))

    @pytest.mark.parametrize(
        ("host", "port", "code"),
        [
            ("169.254.169.254", 25, "outbound_address"), ("10.0.0.1", 25, "outbound_address"),
            ("127.1", 25, "outbound_host"), ("/var/run/postgresql", 25, "outbound_host"),
            ("a,b", 25, "outbound_host"), ("mail.example", 26, "outbound_port"), ("8.8.8.8", 0, "outbound_port"),
        ],
    )  # fmt: skip
    def test_refuses_as_requests_do(self, host, port, code):
        with pytest.raises(OutboundRefused) as refusal:
            outbound.checked_address(host, port, ports=((25, 25), (465, 465)), policy=LOOPBACK)

        assert refusal.value.code == code

    def test_finds_localhost_by_the_system(self):
        checked = outbound.checked_address(
            "localhost", 5432, ports=outbound.ANY_PORT, policy=LOOPBACK
        )

        assert set(checked.addresses) <= {"127.0.0.1", "::1"}


class TestPolicyOfApplication:
    def test_is_what_the_operator_set(self, app, monkeypatch, serve):
        config: Config = app.extensions["devguard"]
        server = serve()
        with app.app_context():
            with pytest.raises(OutboundRefused):
                outbound.request("GET", server.url("127.0.0.1"))
            changed = replace(
                config,
                outbound_allow=(ip_network("127.0.0.0/8"),),
                outbound_ports=((server.port, server.port),),
            )
            monkeypatch.setitem(app.extensions, "devguard", changed)

            assert outbound.request("GET", server.url("127.0.0.1")).status == 200

    def test_is_shown_as_a_problem_when_it_refuses(self, app):
        from app.kit.problems import problem

        with (
            app.test_request_context(),
            pytest.raises(OutboundRefused) as refusal,
        ):
            outbound.request("GET", "http://127.0.0.1/")

        with app.test_request_context():
            answer = problem(refusal.value)
        assert answer.status_code == 422
        assert json.loads(answer.get_data())["code"] == "outbound_address"


class TestSettings:
    def read(self, tmp_path, **env: str) -> Config:
        return Config.from_environment({"DEVGUARD_HOME": str(tmp_path), **env})

    def test_list_networks_and_ports(self, tmp_path):
        config = self.read(
            tmp_path,
            DEVGUARD_OUTBOUND_ALLOW="10.0.0.0/8, fd00::/8,127.0.0.1",
            DEVGUARD_OUTBOUND_PORTS="443, 8000-8999",
        )

        assert config.outbound_allow == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("127.0.0.1/32"))  # fmt: skip
        assert config.outbound_ports == ((443, 443), (8000, 8999))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("DEVGUARD_OUTBOUND_ALLOW", "10.0.0.1/8"), ("DEVGUARD_OUTBOUND_ALLOW", "localhost"),
            ("DEVGUARD_OUTBOUND_PORTS", "0"), ("DEVGUARD_OUTBOUND_PORTS", "70000"),
            ("DEVGUARD_OUTBOUND_PORTS", "90-80"), ("DEVGUARD_OUTBOUND_PORTS", "http"),
        ],
    )  # fmt: skip
    def test_refuse_by_name(self, tmp_path, name, value):
        with pytest.raises(ConfigError, match=name):
            self.read(tmp_path, **{name: value})


GEVENT_PROGRAM = """
from gevent import monkey
monkey.patch_all()
import json, socket, sys, time
from ipaddress import ip_network
import gevent
import app.kit.outbound as outbound

stalls = []
def tick():
    last = time.monotonic()
    while True:
        gevent.sleep(0.005)
        stalls.append(time.monotonic() - last)
        last = time.monotonic()

def slow_lookup(name):
    # As getaddrinfo(3) in a resolver thread of gevent: it blocks the thread and not the loop.
    from gevent.monkey import get_original
    return gevent.get_hub().threadpool.apply(lambda: (get_original("time", "sleep")(0.3), ["127.0.0.1"])[1])

url, ca_file = sys.argv[1:]
policy = outbound.OutboundPolicy(
    allowed=(ip_network("127.0.0.0/8"), ip_network("::1/128")), ports=outbound.ANY_PORT,
    resolver=slow_lookup, ca_file=ca_file,
)
ticker = gevent.spawn(tick)
gevent.sleep(0.05)
answers = [gevent.spawn(outbound.request, "GET", url, policy=policy) for _ in range(3)]
gevent.joinall(answers, raise_error=True)
localhost = outbound.checked_address("localhost", 1, ports=outbound.ANY_PORT, policy=outbound.OutboundPolicy(allowed=policy.allowed))
print(json.dumps({"statuses": [a.value.status for a in answers], "ticks": len(stalls), "longest_s": max(stalls), "localhost": localhost.addresses}))
"""


class TestUnderGevent:
    def test_leaves_the_loop_to_others(self, serve, authority):
        def respond(connection, _request):
            time.sleep(0.3)
            connection.sendall(OK)

        server = serve(respond, context=authority.context("receiver.example"))

        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(GEVENT_PROGRAM), server.url(), authority.file],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["statuses"] == [200, 200, 200]
        # 0.6 s or more of waiting, for DNS and for the server, in which the loop went on.
        assert told["ticks"] > 40
        assert told["localhost"]


def test_the_system_resolver_asks_the_system(monkeypatch):
    found = [(socket.AF_INET, 1, 6, "", ("192.0.2.1", 0)), (socket.AF_INET6, 1, 6, "", ("2001:db8::1", 0, 0, 0))]  # fmt: skip
    monkeypatch.setattr(resolving.socket, "getaddrinfo", lambda *_args, **_options: found * 2)

    assert resolving.system_resolver("a.example") == ["192.0.2.1", "2001:db8::1"]
