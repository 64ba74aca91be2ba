"""How long the product takes to start, and how much memory it takes when nobody asks it anything.

    .venv/bin/python benchmarks/footprint.py

Starts `run.py` twice on a temporary home and a free port. Memory is the proportional set size (PSS: a page that several
processes share counts once), from /proc/*/smaps_rollup, so Linux only. Stops what it started.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 300
# Until connections are made, queues declared and the first scheduled tasks have run.
SETTLE_S = 20
OUTSIDE = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")


def main() -> None:
    """Measure and print."""
    folder = Path(tempfile.mkdtemp(prefix="devguard-footprint-"))
    try:
        for name in ("first", "second"):
            process, seconds = start(folder / "home")
            print(f"{name} start to /health/ready: {seconds:5.1f} s", flush=True)
            if name == "second":
                time.sleep(SETTLE_S)
                print_memory(process.pid)
            began = time.monotonic()
            process.terminate()
            code = process.wait(120)
            print(
                f"{name} stop: {time.monotonic() - began:5.1f} s, exit code {code}",
                flush=True,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(home: Path) -> tuple[subprocess.Popen[bytes], float]:
    """Return the started product and the seconds until it was ready."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
    environment |= {"DEVGUARD_HOME": str(home), "DEVGUARD_PORT": str(port)}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py")], env=environment, stdout=subprocess.DEVNULL
    )
    while not is_ready(port):
        if process.poll() is not None or time.monotonic() - began > START_TIMEOUT_S:
            process.terminate()
            raise SystemExit("the product did not start; try ./setup.sh")
        time.sleep(0.02)
    return process, time.monotonic() - began


def print_memory(supervisor: int) -> None:
    """Print the PSS of each part and of all together."""
    parent = psutil.Process(supervisor)
    total_kb = pss_kb(supervisor)
    print(f"{'supervisor':<12} 1 process    {total_kb / 1024:7.1f} MB")
    for child in parent.children():
        members = [child, *child.children(recursive=True)]
        size_kb = sum(pss_kb(member.pid) for member in members)
        total_kb += size_kb
        print(f"{part_name(child):<12} {len(members)} processes  {size_kb / 1024:7.1f} MB")
    print(f"idle product, all processes: {total_kb / 1024:.0f} MB PSS", flush=True)


def part_name(process: psutil.Process) -> str:
    """Return what the supervisor calls this child."""
    line = " ".join(process.cmdline())
    known = {"gunicorn": "web", " worker ": "worker", " beat ": "beat", "redis": "redis"}
    return next((name for word, name in known.items() if word in line), "postgres")


def pss_kb(process: int) -> int:
    """Return the proportional set size of one process, 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def is_ready(port: int) -> bool:
    """Return whether the web server says that it may be given work."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
