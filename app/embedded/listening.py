"""The address of the web server: taken before anything starts, and asked whether somebody answers there."""

from __future__ import annotations

import errno
import socket
import time

from app.embedded.exits import ExitCode, StartFault

BACKLOG = 2048
ASK_AGAIN_AFTER_S = 0.3
# A web server that is being started answers within this, else we ask anew.
ANSWER_TIMEOUT_S = 10.0
QUESTION = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address. Raises StartFault(PORT_TAKEN) when that is not possible."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # Without this the address of a copy that has just ended stays closed for a minute.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise StartFault(ExitCode.PORT_TAKEN, _why_not(host, port, error)) from error
    return listener


class Probe:
    """Asks the web server whether it is ready, without ever waiting for it."""

    def __init__(self, listener: socket.socket) -> None:
        self._family = listener.family
        # Of 0.0.0.0 and :: the system makes its own address.
        self._address = listener.getsockname()
        self._connection: socket.socket | None = None
        self._asked_at = -ASK_AGAIN_AFTER_S

    @property
    def is_waiting(self) -> bool:
        return self._connection is not None

    def fileno(self) -> int:
        """Return what becomes readable with the answer, -1 when nothing was asked."""
        return -1 if self._connection is None else self._connection.fileno()

    def is_answered(self) -> bool:
        """Return whether the web server said 200; ask it when nothing was asked."""
        now = time.monotonic()
        if self._connection is None and now - self._asked_at >= ASK_AGAIN_AFTER_S:
            self._ask(now)
        if self._connection is None:
            return False
        try:
            answer = self._connection.recv(64)
        except BlockingIOError:
            if now - self._asked_at > ANSWER_TIMEOUT_S:
                self.close()
            return False
        except OSError:
            answer = b""
        self.close()
        return answer.split(b" ")[1:2] == [b"200"]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, now: float) -> None:
        self._asked_at = now
        connection = socket.socket(self._family, socket.SOCK_STREAM)
        # The address is on this machine and listens already: connecting does not wait.
        connection.settimeout(0.2)
        try:
            connection.connect(self._address)
            connection.sendall(QUESTION)
            connection.settimeout(0)
        except OSError:
            connection.close()
            return
        self._connection = connection


def _why_not(host: str, port: int, error: OSError) -> str:
    address = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken: another program listens on {address}. Stop it, or set DEVGUARD_PORT."
    if error.errno == errno.EACCES:
        return f"Port {port} may only be used by root; set DEVGUARD_PORT to 1024 or more."
    return f"Cannot listen on {address}: {error.strerror}. Check DEVGUARD_HOST and DEVGUARD_PORT."
