"""Real processes on homes that live as long as one test."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
STUB = Path(__file__).parent / "stub"


class Product:
    """`python run.py` of one tree on one home and port, as a person would start it."""

    def __init__(self, tree: Path, home: Path, port: int) -> None:
        self.tree = tree
        self.home = home
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._log = home.with_name(f"{home.name}.out")
        self._said_before = 0

    def environment(self) -> dict[str, str]:
        given = {"DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}
        kept = {name: value for name, value in os.environ.items() if name not in given}
        return {**kept, "DEVGUARD_HOME": str(self.home), "DEVGUARD_PORT": str(self.port)}

    def start(self) -> Product:
        self._said_before = len(self.output())
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "run.py"],
                cwd=self.tree,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    def run(self, **changed: str) -> subprocess.CompletedProcess[str]:
        """Start it where it must refuse; return how it ended."""
        return subprocess.run(
            [sys.executable, "run.py"],
            cwd=self.tree,
            env={**self.environment(), **changed},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def get(self, path: str, *, timeout_s: float = 10.0) -> bytes:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}{path}", timeout=timeout_s
        ) as answer:
            return bytes(answer.read())

    def wait_until_ready(self, timeout_s: float = 60.0) -> Product:
        wait_for(self._is_ready, timeout_s, self.output)
        return self

    def wait_for_part(self, name: str, *, other_than: int = 0) -> psutil.Process:
        wait_for(lambda: self.part(name) not in (None, other_than), 60, self.output)
        return psutil.Process(self.part(name))

    def part(self, name: str) -> int | None:
        """Return the process of a part, None while there is none."""
        assert self.process is not None
        words = {
            "web": "gunicorn",
            "worker": "worker",
            "beat": "beat",
            "redis": "redis-server",
            "postgres": "postgres",
        }
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                line = child.cmdline()
                if "launch.py" not in " ".join(line) and any(words[name] in word for word in line):
                    return child.pid
        return None

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def kill_everything(self) -> None:
        assert self.process is not None
        supervisor = psutil.Process(self.process.pid)
        family: set[psutil.Process] = set()
        # Held first, so that nobody is born between the count and the kill.
        while family != (found := {supervisor, *supervisor.children(recursive=True)}):
            family = found
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)

    def output(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output()
        try:
            self.get("/health/ready")
        except OSError:
            return False
        return "Ready after" in self.output()[self._said_before :]


def wait_for(condition, timeout_s, explain=lambda: "") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s\n{explain()}"
        time.sleep(0.1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: sockets have their place in it."""
    path = Path(tempfile.mkdtemp(prefix="dg-")).resolve()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def home(folder: Path) -> Path:
    return folder / "home"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def tree(folder: Path) -> Path:
    """The product with a stand-in for the application."""
    tree = folder / "tree"
    shutil.copytree(STUB, tree, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "app" / "embedded",
        tree / "app" / "embedded",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("config.py", "run.py"):
        shutil.copy(ROOT / name, tree)
    return tree


@pytest.fixture
def product(tree: Path, home: Path, free_port: int) -> Iterator[Product]:
    """The stand-in on its own home; ended after the test however it went."""
    product = Product(tree, home, free_port)
    yield product
    if product.process is not None and product.process.poll() is None:
        product.kill_everything()
