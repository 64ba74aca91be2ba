"""What encrypting a field costs, against raw AES-256-GCM and Fernet of the same value in the same run.

    .venv/bin/python benchmarks/encryption.py [--values 20000]

Starts an embedded PostgreSQL and Redis of its own under a temporary folder: the data key is read from
there once in two seconds, as in production. All sides alternate, so that none has the quieter moments
of the machine; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flask_migrate import upgrade

from app import create_app
from app.embedded.postgres import start_postgres
from app.embedded.redis_server import start_redis
from app.kit import encryption
from app.kit.encryption.envelope import derived_key
from app.kit.ids import new_id
from app.kit.tenancy import organization_scope
from config import Config

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7
VALUE = "whsec_" + secrets.token_urlsafe(32)
AAD = f"{new_id()}|integration_webhooks|secret|{new_id()}".encode()

Deed = Callable[[], object]


@contextmanager
def inside_an_organization() -> Iterator[dict[str, object]]:
    """Run in an application with a database of its own; yield where the values belong."""
    with tempfile.TemporaryDirectory(prefix="devguard-bench-") as folder:
        home = Path(folder).resolve()
        home.chmod(0o755)
        postgres, redis = start_postgres(home, durable=False), start_redis(home, durable=False)
        try:
            app = create_app(
                Config.from_environment(
                    {
                        "DEVGUARD_HOME": folder,
                        "DATABASE_URL": postgres.url(),
                        "REDIS_URL": redis.url(),
                        "SECRET_KEY": secrets.token_hex(32),
                        "JWT_SECRET_KEY": secrets.token_hex(32),
                        "DEVGUARD_ENCRYPTION_KEY": secrets.token_hex(32),
                        "DEVGUARD_LOG_LEVEL": "ERROR",
                    }
                )
            )
            organization_id = new_id()
            with app.app_context():
                upgrade(directory=str(ROOT / "app" / "migrations"))
            with app.app_context(), organization_scope(organization_id):
                encryption.register_column("integration_webhooks", "secret")
                yield {
                    "organization_id": organization_id,
                    "table": "integration_webhooks",
                    "column": "secret",
                    "row_id": new_id(),
                }
        finally:
            redis.stop()
            postgres.stop()


def microseconds(deed: Deed, values: int) -> float:
    began = time.perf_counter()
    for _ in range(values):
        deed()
    return (time.perf_counter() - began) / values * 1e6


def pairs(where: dict[str, object]) -> dict[str, tuple[Deed, Deed]]:
    """Return of each side how it encrypts and how it decrypts."""
    raw, fernet = AESGCM(os.urandom(32)), Fernet(Fernet.generate_key())
    nonce = os.urandom(12)
    sealed_raw = raw.encrypt(nonce, VALUE.encode(), AAD)
    token = fernet.encrypt(VALUE.encode())
    sealed = encryption.encrypt(VALUE, **where)  # type: ignore[arg-type]
    return {
        "AES-256-GCM, raw": (
            lambda: raw.encrypt(os.urandom(12), VALUE.encode(), AAD),
            lambda: raw.decrypt(nonce, sealed_raw, AAD),
        ),
        "Fernet": (lambda: fernet.encrypt(VALUE.encode()), lambda: fernet.decrypt(token)),
        "DevGuard": (
            lambda: encryption.encrypt(VALUE, **where),  # type: ignore[arg-type]
            lambda: encryption.decrypt(sealed, **where),  # type: ignore[arg-type]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=20_000)
    values = parser.parse_args().values
    with inside_an_organization() as where:
        sides = pairs(where)
        taken: dict[tuple[str, int], list[float]] = {
            (side, i): [] for side in sides for i in (0, 1)
        }
        for _ in range(ROUNDS):
            for (side, place), times in taken.items():
                times.append(microseconds(sides[side][place], values))
    median = {key: statistics.median(times) for key, times in taken.items()}
    print(f"{len(VALUE)} characters, median of {ROUNDS} rounds of {values} values")
    for place, deed in enumerate(("encrypt", "decrypt")):
        ours = median["DevGuard", place]
        for side in sides:
            us = median[side, place]
            print(
                f"{deed}  {side:<17} {us:6.2f} us   DevGuard takes {ours / us:5.2f} times as long"
            )
    print(f"passphrase: {microseconds(derive, 1) / 1e3:.0f} ms, once per process")


def derive() -> bytes:
    return derived_key("correct horse battery staple", bytes(32), 600_000)


if __name__ == "__main__":
    main()
