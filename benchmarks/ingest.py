"""What logging calls costs over HTTP, against what PostgreSQL and Flask can do at all.

Prints three comparisons from one run, on one embedded server, the sides taking turns:
1. batches of 1,000 calls over HTTP (parse, validate, price, deduplicate, roll up, commit) against COPY
   of the same rows, already encoded, into the same table by one connection;
2. single calls over HTTP against a bare Flask route that inserts one prepared row;
3. the latency of a batch while rollups are compacted without pause.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import calls  # noqa: E402
from product import Product, free_port, running_product  # noqa: E402

BATCH = 1000
PATH = "/api/v1/api-gateway/requests"


def http_bytes(body: bytes, *, path: str, key: str) -> bytes:
    """Return a whole HTTP/1.1 request, so that a client spends nothing on making it."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send_all(port: int, messages: list[bytes], times: list[float]) -> None:
    """Send each message over one kept connection and note its seconds; raise unless it answers 201."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for message in messages:
            began = time.perf_counter()
            connection.sendall(message)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            head, _, rest = answer.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            while len(rest) < length:
                rest += connection.recv(65536)
            times.append(time.perf_counter() - began)
            if b" 201 " not in head.split(b"\r\n")[0] + b" ":
                raise SystemExit(f"answered {head[:40]!r}: {rest[:400]!r}")


def _client(port: int, messages: list[bytes], barrier: object, answers: object) -> None:
    times: list[float] = []
    barrier.wait()  # type: ignore[attr-defined]
    send_all(port, messages, times)
    answers.put(times)  # type: ignore[attr-defined]


def run_clients(port: int, messages: list[bytes], *, clients: int) -> tuple[float, list[float]]:
    """Return the wall seconds until all messages are answered, and the seconds of each."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(clients + 1), context.Queue()
    processes = [
        context.Process(target=_client, args=(port, messages[n::clients], barrier, answers))
        for n in range(clients)
    ]
    for process in processes:
        process.start()
    barrier.wait()
    began = time.perf_counter()
    times = [each for _ in processes for each in answers.get(timeout=300)]
    wall = time.perf_counter() - began
    for process in processes:
        process.join()
    return wall, times


class CopySide:
    """COPY of encoded rows into the same table, as its owner, by one connection."""

    def __init__(self, product: Product) -> None:
        from app.api_gateway import catalogue
        from app.api_gateway.logged_calls import COLUMNS, AcceptedTimes, CallReader
        from app.api_gateway.price_book import PriceBook, price_sources
        from app.api_gateway.schemas.batches import read_json

        now = datetime.now(UTC)
        times = AcceptedTimes.around(now, retention=timedelta(days=90), ahead=timedelta(minutes=10))
        names = {provider.id: provider.id for provider in catalogue.catalogue_providers()}
        sources = price_sources(
            catalogue.price_rows(),
            provider_names={**names, **catalogue.provider_aliases()},
            resolve_model=catalogue.resolve_model,
        )
        self._reader = CallReader(book=PriceBook(sources), times=times)
        self._read = read_json
        self._product = product
        columns = ", ".join(("organization_id", "project_id", *COLUMNS))
        self._copy = (
            f"COPY measurements.api_requests ({columns}) FROM STDIN WITH (FORMAT text, NULL '')"
        )
        self._connection = psycopg.connect(product.database_url)
        self._project = UUID(product.project_id)

    def encoded(self, body: bytes) -> bytes:
        prefix = f"{self._product.organization_id}\t{self._project}\t"
        rows = (self._reader.read(i, item).line(1) for i, item in self._read(body).items)
        return "".join(prefix + row for row in rows).encode()

    def run(self, texts: list[bytes]) -> float:
        began = time.perf_counter()
        for text in texts:
            with self._connection.cursor() as cursor, cursor.copy(self._copy) as copy:
                copy.write(text)
            self._connection.commit()
        return time.perf_counter() - began


def compare_batches(product: Product, *, rounds: int, batches: int, clients: int) -> None:
    copy_side = CopySide(product)
    ratios, rates, copies = [], [], []
    for number in range(-1, rounds):
        name = secrets.token_hex(4)
        bodies = [calls.batch(f"{name}-{n}", size=BATCH, seed=n) for n in range(batches)]
        texts = [
            copy_side.encoded(body.replace(name.encode(), b"copy" + name.encode()))
            for body in bodies
        ]
        messages = [http_bytes(body, path=PATH, key=product.ingest_key) for body in bodies]
        before = copy_side.run(texts[: batches // 2])
        wall, _ = run_clients(product.port, messages, clients=clients)
        after = copy_side.run(texts[batches // 2 :])
        copy_rate = BATCH * batches / (before + after)
        rate = BATCH * batches / wall
        if number < 0:
            continue  # the first round warms caches, pools and prepared statements
        copies.append(copy_rate)
        rates.append(rate)
        ratios.append(rate / copy_rate)
        print(
            f"  round {number + 1}: HTTP {rate:9,.0f} calls/s   COPY {copy_rate:9,.0f} rows/s   ratio {rate / copy_rate:.3f}"
        )
    print(
        f"batches of {BATCH}, {clients} clients: {statistics.median(rates):,.0f} calls/s, "
        f"COPY {statistics.median(copies):,.0f} rows/s, ratio {statistics.median(ratios):.3f} "
        f"(target 0.18, heading for 0.30)"
    )


@contextmanager
def bare_route(product: Product) -> Iterator[int]:
    """A bare Flask route behind the same gunicorn, which inserts one prepared row and commits."""
    port = free_port()
    env = os.environ | {"BARE_DATABASE_URL": product.database_url}
    process = subprocess.Popen(
        [
            sys.executable, "-m", "gunicorn", "--chdir", str(Path(__file__).parent),
            "--no-control-socket", "-k", "gevent", "-w", "2", "-b", f"127.0.0.1:{port}",
            "--log-level", "error", "bare_route:app",
        ],
        env=env,
    )  # fmt: skip
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def compare_singles(product: Product, *, rounds: int, requests: int, clients: int) -> None:
    ratios, rates = [], []
    with bare_route(product) as bare_port:
        for number in range(-1, rounds):
            name = secrets.token_hex(4)
            items = json.loads(calls.batch(name, size=requests, seed=1))["requests"]
            bodies = [json.dumps(item, separators=(",", ":")).encode() for item in items]
            ours = [http_bytes(body, path=PATH, key=product.ingest_key) for body in bodies]
            theirs = [http_bytes(body, path="/one", key="none") for body in bodies]
            wall, _ = run_clients(product.port, ours, clients=clients)
            bare_wall, _ = run_clients(bare_port, theirs, clients=clients)
            if number < 0:
                continue
            rates.append(requests / wall)
            ratios.append(bare_wall / wall)
            print(
                f"  round {number + 1}: ours {requests / wall:7,.0f}/s   bare route {requests / bare_wall:7,.0f}/s   ratio {bare_wall / wall:.3f}"
            )
    print(
        f"single calls, {clients} clients: {statistics.median(rates):,.0f}/s, "
        f"ratio to a bare Flask route {statistics.median(ratios):.3f} (target 0.5)"
    )


def _compact_without_pause(product: Product, stop: object) -> None:
    os.environ["DEVGUARD_HOME"] = str(product.home)
    from app import create_app
    from app.api_gateway.service.rollups import compact_rollups
    from app.kit.tenancy import system_session

    with create_app().app_context():
        while not stop.is_set():  # type: ignore[attr-defined]
            with system_session() as session:
                compact_rollups(session)


def latency_under_compaction(product: Product, *, batches: int) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    compactor = context.Process(target=_compact_without_pause, args=(product, stop))
    compactor.start()
    time.sleep(3)
    name = secrets.token_hex(4)
    bodies = [calls.batch(f"{name}-{n}", size=BATCH, seed=n) for n in range(batches)]
    messages = [http_bytes(body, path=PATH, key=product.ingest_key) for body in bodies]
    _, times = run_clients(product.port, messages, clients=1)
    stop.set()
    compactor.join()
    times.sort()
    print(
        f"a batch of {BATCH} while rollups compact without pause ({batches} batches, 1 client): "
        f"p50 {times[len(times) // 2] * 1e3:.0f} ms, p99 {times[int(len(times) * 0.99)] * 1e3:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=60, help="of 1,000 calls, in each round")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--singles", type=int, default=4000, help="single calls in each round")
    arguments = parser.parse_args()
    with running_product() as product:
        compare_batches(
            product,
            rounds=arguments.rounds,
            batches=arguments.batches,
            clients=arguments.clients,
        )
        for clients in (8, 32):
            compare_singles(product, rounds=3, requests=arguments.singles, clients=clients)
        latency_under_compaction(product, batches=200)


if __name__ == "__main__":
    main()
