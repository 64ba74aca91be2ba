"""One HTTP request to wherever a customer says: the address is checked and bounded, the answer too.

Why neither httpx nor urllib3: whom we connect to must be certain, so the connection is ours. The name is
resolved once, all its addresses are checked, and the socket goes to one of those; the name is only in the
Host header, in SNI and in the check of the certificate. h11, a parser without a network (httpx uses it
too), makes and reads the messages. There is no pool, no redirect, no proxy, no cookie, no
decompression: what is not there needs no switch to be off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import h11

from app.kit.outbound.deadlines import Deadline
from app.kit.outbound.errors import OutboundFailed, OutboundRefused
from app.kit.outbound.resolving import OutboundPolicy, check_host, policy_of_application
from app.kit.outbound.streams import Stream, connect
from app.kit.outbound.targets import Target, parse_url

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
# Ours alone: with these a customer could cut one message into two, or speak to another host.
OUR_HEADERS = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer",
        "upgrade", "expect", "proxy-authorization", "proxy-connection", "accept-encoding",
    }
)  # fmt: skip
# RFC 9110 section 5.6.2 (token) and 5.5 (field value), of which we send ASCII only.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?)?")
# Around the body come chunk lengths, at worst some bytes for each; far more is an attack.
FRAMING = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost: seconds for DNS, TCP and TLS, seconds in all, bytes of the answer."""

    connect_s: float = 5.0
    total_s: float = 15.0
    body_bytes: int = 1_000_000
    header_bytes: int = 32_768


@dataclass(frozen=True, slots=True)
class OutboundResponse:
    """What came back, 3xx included; header names in lower case. `is_cut`: the body was longer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    address: str
    is_cut: bool = False

    def header(self, name: str) -> str | None:
        """Return the first header of this name."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def json(self) -> Any:
        """Return the body as JSON. Raises OutboundFailed when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise OutboundFailed("the answer is no JSON", code="outbound_not_json") from None


DEFAULT_LIMITS = Limits()


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    limits: Limits = DEFAULT_LIMITS,
    cuts_body: bool = False,
    policy: OutboundPolicy | None = None,
) -> OutboundResponse:
    """Return the answer of whoever the URL names, its body as sent (never decompressed).

    `cuts_body`: of an answer that is too long keep the beginning (for whom the status is enough)
    instead of failing. Raises OutboundRefused when a rule forbids the request - nothing was sent then -
    and OutboundFailed when no valid answer came in time.
    """
    chosen = policy or policy_of_application()
    target = parse_url(url)
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.header_bytes)
    message = _message(protocol, method, target, headers or {}, body)
    deadline = Deadline.after(limits.total_s)
    connecting = deadline.sooner(limits.connect_s)
    checked = check_host(
        target.host, target.port, ports=chosen.ports, policy=chosen, deadline=connecting
    )
    is_tls = target.scheme == "https"
    stream = connect(checked, is_tls=is_tls, ca_file=chosen.ca_file, deadline=connecting)
    with closing(stream):
        stream.send(message, deadline)
        answer = _Answer(limits, cuts_body=cuts_body)
        answer.read(protocol, stream, deadline)
    return OutboundResponse(
        answer.status, answer.headers, bytes(answer.body), stream.address, answer.is_cut
    )


def _message(
    protocol: h11.Connection, method: str, target: Target, headers: Mapping[str, str], body: bytes
) -> bytes:
    if method not in METHODS:
        raise OutboundRefused("this method is not one we send", code="outbound_method")
    if body and method in {"GET", "HEAD"}:
        raise OutboundRefused("GET and HEAD have no body", code="outbound_body")
    given = {name.lower() for name in headers}
    lines = [("Host", target.authority), ("Connection", "close"), ("Accept-Encoding", "identity")]
    lines += [("User-Agent", "DevGuard")] if "user-agent" not in given else []
    lines += [("Content-Length", str(len(body)))] if method not in {"GET", "HEAD"} else []
    lines += _checked(headers)
    sent = protocol.send(h11.Request(method=method, target=target.path, headers=lines)) or b""
    if body:
        sent += protocol.send(h11.Data(data=body)) or b""
    return sent + (protocol.send(h11.EndOfMessage()) or b"")


def _checked(headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for name, value in headers.items():
        if name.lower() in OUR_HEADERS:
            raise OutboundRefused(f"the header {name} is not the sender's", code="outbound_header")
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            # Neither is repeated: a value may be a secret, and both may be anything.
            raise OutboundRefused("a header has a forbidden character", code="outbound_header")
        yield name, value


@dataclass(slots=True)
class _Answer:
    """What has been read so far."""

    limits: Limits
    cuts_body: bool
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytearray = field(default_factory=bytearray)
    is_cut: bool = False
    received: int = 0

    def read(self, protocol: h11.Connection, stream: Stream, deadline: Deadline) -> None:
        """Read to the end of the answer, or of what we take of it. Raises OutboundFailed."""
        try:
            while not self._ends_with(event := protocol.next_event()):
                if event is h11.NEED_DATA:
                    protocol.receive_data(self._received(stream, deadline))
        except h11.RemoteProtocolError as error:
            raise _too_large() if error.error_status_hint == 431 else _broken() from None

    def _ends_with(self, event: object) -> bool:
        if isinstance(event, h11.Response):
            self._begin(event)
        elif isinstance(event, h11.Data):
            return self._cuts(event.data)
        elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            raise _broken()
        return isinstance(event, h11.EndOfMessage)

    def _begin(self, response: h11.Response) -> None:
        self.status = response.status_code
        # h11 bounds only headers that arrive in pieces.
        if (
            sum(len(name) + len(value) for name, value in response.headers)
            > self.limits.header_bytes
        ):
            raise _too_large()
        self.headers = tuple(
            (name.decode("ascii"), value.decode("latin-1")) for name, value in response.headers
        )

    def _cuts(self, content: bytes | bytearray) -> bool:
        self.body += content
        if len(self.body) <= self.limits.body_bytes:
            return False
        if not self.cuts_body:
            raise _too_large()
        del self.body[self.limits.body_bytes :]
        self.is_cut = True
        return True

    def _received(self, stream: Stream, deadline: Deadline) -> bytes:
        content = stream.receive(deadline)
        self.received += len(content)
        # Also what is no body: endless "100 Continue", trailers, chunks of nothing but extensions.
        if self.received > FRAMING * (self.limits.header_bytes + self.limits.body_bytes):
            raise _too_large()
        return content


def _broken() -> OutboundFailed:
    return OutboundFailed("the answer is no valid HTTP", code="outbound_protocol")


def _too_large() -> OutboundFailed:
    return OutboundFailed("the answer is too large", code="outbound_too_large")
