"""A connection to a checked address, plain or TLS, of which every single wait ends at the deadline.

TLS goes through memory (ssl.MemoryBIO): with a wrapped socket the handshake and each record wait on
their own, and a server that sends one byte now and then holds them for as long as it likes.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Protocol, TypeVar

from app.kit.outbound.deadlines import Deadline
from app.kit.outbound.errors import OutboundFailed
from app.kit.outbound.resolving import CheckedHost
from app.kit.outbound.threads import off_the_loop

CHUNK_BYTES = 16_384
MOST_ATTEMPTS = 4

Result = TypeVar("Result")


class Stream(Protocol):
    """Bytes out, bytes in; `address` is the other side's."""

    address: str

    def send(self, content: bytes, deadline: Deadline) -> None:
        """Send all of it. Raises OutboundFailed."""

    def receive(self, deadline: Deadline) -> bytes:
        """Return what has come, b"" at the end. Raises OutboundFailed."""

    def close(self) -> None:
        """Close the connection."""


class PlainStream:
    """A TCP connection."""

    def __init__(self, connected: socket.socket, address: str) -> None:
        self._socket = connected
        self.address = address

    def send(self, content: bytes, deadline: Deadline) -> None:
        """Send all of it. Raises OutboundFailed."""
        rest = memoryview(content)
        while rest:
            chunk = partial(self._socket.send, rest[:CHUNK_BYTES])
            rest = rest[self._wait(chunk, deadline) :]

    def receive(self, deadline: Deadline) -> bytes:
        """Return what has come, b"" at the end. Raises OutboundFailed."""
        return self._wait(lambda: self._socket.recv(CHUNK_BYTES), deadline)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _wait(self, deed: Callable[[], Result], deadline: Deadline) -> Result:
        self._socket.settimeout(deadline.remaining_s())
        try:
            return deed()
        except TimeoutError:
            raise OutboundFailed("the other side took too long", code="outbound_timeout") from None
        except OSError:
            raise OutboundFailed("the connection broke", code="outbound_connection") from None


class TlsStream:
    """A TLS connection over another stream; the certificate was verified for the name."""

    def __init__(
        self, below: PlainStream, context: ssl.SSLContext, *, name: str, deadline: Deadline
    ) -> None:
        self._below = below
        self.address = below.address
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._pump(self._tls.do_handshake, deadline)

    def send(self, content: bytes, deadline: Deadline) -> None:
        """Send all of it. Raises OutboundFailed."""
        rest = memoryview(content)
        while rest:
            chunk = partial(self._tls.write, rest[:CHUNK_BYTES])
            rest = rest[self._pump(chunk, deadline) :]

    def receive(self, deadline: Deadline) -> bytes:
        """Return what has come, b"" at the end. Raises OutboundFailed, too when it is cut off."""
        return self._pump(self._read, deadline)

    def close(self) -> None:
        """Close the connection."""
        self._below.close()

    def _read(self) -> bytes:
        try:
            return self._tls.read(CHUNK_BYTES)
        except ssl.SSLZeroReturnError:
            return b""

    def _pump(self, deed: Callable[[], Result], deadline: Deadline) -> Result:
        """Return deed(), carrying bytes both ways for as long as it wants more."""
        while True:
            try:
                done = deed()
            except ssl.SSLWantReadError:
                self._flush(deadline)
                self._fill(deadline)
            except ssl.SSLCertVerificationError as error:
                raise OutboundFailed(
                    f"the certificate is not valid: {error.verify_message}",
                    code="outbound_certificate",
                ) from None
            except ssl.SSLError:
                raise OutboundFailed("TLS failed", code="outbound_tls") from None
            else:
                self._flush(deadline)
                return done

    def _flush(self, deadline: Deadline) -> None:
        if self._outgoing.pending:
            self._below.send(self._outgoing.read(), deadline)

    def _fill(self, deadline: Deadline) -> None:
        received = self._below.receive(deadline)
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()


def connect(
    checked: CheckedHost, *, is_tls: bool, ca_file: str | None, deadline: Deadline
) -> Stream:
    """Return a stream to the first address that answers. Raises OutboundFailed."""
    plain = _connected(checked, deadline)
    if not is_tls:
        return plain
    try:
        # The first time in a process it reads a few hundred certificates.
        context = off_the_loop(_tls_context, ca_file)
        return TlsStream(plain, context, name=checked.host.name, deadline=deadline)
    except BaseException:
        plain.close()
        raise


def _connected(checked: CheckedHost, deadline: Deadline) -> PlainStream:
    attempts = checked.addresses[:MOST_ATTEMPTS]
    for place, address in enumerate(attempts):
        # What is left is shared, so that a silent first address leaves time for the others.
        timeout_s = deadline.remaining_s() / (len(attempts) - place)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        attempt = socket.socket(family, socket.SOCK_STREAM)
        try:
            attempt.settimeout(timeout_s)
            attempt.connect((address, checked.port))
        except OSError:
            attempt.close()
        except BaseException:
            attempt.close()
            raise
        else:
            return PlainStream(attempt, address)
    deadline.remaining_s()
    raise OutboundFailed("nobody answers there", code="outbound_connection")


@lru_cache(maxsize=8)
def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
