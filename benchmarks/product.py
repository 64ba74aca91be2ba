"""Starts the whole product on a temporary home for a benchmark, and speaks to it as a client would."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
READY_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Product:
    """A running product: its address, its home, and one registered tenant with an ingest key."""

    host: str
    port: int
    home: Path
    token: str
    project_id: str
    organization_id: str
    ingest_key: str

    @property
    def database_url(self) -> str:
        """The embedded PostgreSQL, as superuser, for psycopg."""
        from config import Config

        url = Config.from_environment({"DEVGUARD_HOME": str(self.home)}).database_url
        return url.replace("postgresql+psycopg://", "postgresql://")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_product(**environment: str) -> Iterator[Product]:
    """Start `run.py` on a temporary home and a free port, register a tenant; stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="devguard-bench-") as folder:
        home = Path(folder).resolve()
        home.chmod(0o755)
        port = free_port()
        env = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DATABASE_URL", "REDIS_URL"}
        }
        env |= {
            "DEVGUARD_HOME": str(home),
            "DEVGUARD_PORT": str(port),
            "RATELIMIT_ENABLED": "false",
            **environment,
        }
        process = subprocess.Popen(
            [sys.executable, "run.py"],
            cwd=ROOT,
            env=env,
            stdout=(home / "benchmark.out").open("wb"),
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(process, port, home)
            yield _with_tenant(port, home)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=90)


def ask(
    port: int, method: str, path: str, body: Any = None, token: str | None = None
) -> tuple[int, Any]:
    """Return status and JSON answer of one request to 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, json.loads(raw) if raw else None


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, home: Path) -> None:
    began = time.monotonic()
    while time.monotonic() - began < READY_TIMEOUT_S:
        if process.poll() is not None:
            raise SystemExit((home / "benchmark.out").read_text(errors="replace")[-3000:])
        with contextlib.suppress(OSError):
            if ask(port, "GET", "/health/ready")[0] == 200:
                return
        time.sleep(0.05)
    raise SystemExit("the product did not become ready")


def _with_tenant(port: int, home: Path) -> Product:
    registration = {
        "email": f"{secrets.token_hex(6)}@example.com",
        "password": secrets.token_urlsafe(20),
        "name": "Bench",
        "organization_name": "Bench",
    }
    status, answer = ask(port, "POST", "/api/v1/auth/register", registration)
    if status != 201:
        raise SystemExit(f"registration answered {status}: {answer}")
    token = answer["access_token"]
    _, project = ask(port, "POST", "/api/v1/projects", {"name": "Bench"}, token)
    _, key = ask(
        port,
        "POST",
        "/api/v1/api-keys",
        {"name": "bench", "kind": "ingest", "project_id": project["id"]},
        token,
    )
    return Product(
        host="127.0.0.1",
        port=port,
        home=home,
        token=token,
        project_id=project["id"],
        organization_id=answer["organization"]["id"],
        ingest_key=key["key"],
    )
