"""The whole product, as `./setup.sh` runs it: the real application on embedded servers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded.exits import ExitCode
from app.embedded.welcome import COMMANDS, address
from config import Config
from tests.embedded.conftest import ROOT, Product

pytestmark = pytest.mark.faults


@pytest.fixture
def whole_product(home: Path, free_port: int) -> Iterator[Product]:
    product = Product(ROOT, home, free_port)
    yield product
    if product.process is not None and product.process.poll() is None:
        product.kill_everything()


def follow_the_welcome(product: Product) -> dict[str, object]:
    script = f"B=http://127.0.0.1:{product.port}/api/v1\n{COMMANDS}\necho; echo $TOKEN"
    shell = subprocess.run(
        ["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=True
    )
    *answer, token = shell.stdout.strip().splitlines()
    return {"answer": json.loads("".join(answer)), "token": token}


def cost_of_all_calls(product: Product, token: object) -> str:
    question = f"http://127.0.0.1:{product.port}/api/v1/api-gateway/analytics/cost"
    asked = subprocess.run(
        ["curl", "-sf", question, "-H", f"Authorization: Bearer {token}"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    return str(json.loads(asked.stdout)["totals"]["cost"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="the welcome speaks by curl")
class TestRun:
    def test_does_what_it_says_at_the_first_start_and_keeps_it(
        self, whole_product: Product
    ) -> None:
        whole_product.start().wait_until_ready()
        seen = follow_the_welcome(whole_product)
        first_code = whole_product.stop()

        whole_product.start().wait_until_ready()

        assert seen["answer"]["cost"]["amount"] == "0.006"
        assert first_code == ExitCode.STOPPED
        assert cost_of_all_calls(whole_product, seen["token"]) == "0.006"
        assert whole_product.stop() == ExitCode.STOPPED


class TestMigrate:
    def test_starts_the_embedded_database_for_the_duration_only(
        self, home: Path, free_port: int
    ) -> None:
        for command in (["upgrade"], ["current"]):
            done = subprocess.run(
                [sys.executable, "migrate.py", *command],
                cwd=ROOT,
                env=Product(ROOT, home, free_port).environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )

        assert "(head)" in done.stdout
        assert not (home / "postgres" / "postmaster.pid").exists()


class TestWelcome:
    def test_shows_the_commands_of_the_readme(self) -> None:
        assert COMMANDS.strip() in (ROOT / "README.md").read_text()

    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("127.0.0.1", "http://127.0.0.1:5000"),
            ("0.0.0.0", "http://127.0.0.1:5000"),
            ("::", "http://[::1]:5000"),
            ("devguard.example", "http://devguard.example:5000"),
        ],
    )
    def test_shows_an_address_that_one_can_open(
        self, tmp_path: Path, host: str, expected: str
    ) -> None:
        config = Config.from_environment({"DEVGUARD_HOME": str(tmp_path), "DEVGUARD_HOST": host})

        assert address(config) == expected
