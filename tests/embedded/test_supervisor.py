from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from celery import Celery

from app.embedded.exits import ExitCode
from config import Config
from tests.embedded.conftest import Product, wait_for

pytestmark = pytest.mark.faults


def send_nap(home: Path, note: Path) -> None:
    config = Config.from_environment({"DEVGUARD_HOME": str(home)})
    sender = Celery("sender", broker=config.celery_broker_url)
    with sender.connection_for_write() as connection:
        sender.send_task("stub.nap", args=[str(note)], queue="default", connection=connection)
    sender.close()


class TestStart:
    def test_says_what_it_does_within_a_second_and_then_what_to_try(self, product: Product) -> None:
        product.start()
        wait_for(lambda: "Starting PostgreSQL 18 ..." in product.output(), 5)
        product.wait_until_ready()
        wait_for(lambda: "log a call" in product.output(), 5)

        assert f"DevGuard runs at http://127.0.0.1:{product.port}" in product.output()

    def test_refuses_a_second_copy_on_the_same_home(self, product: Product, free_port: int) -> None:
        product.start().wait_until_ready()

        second = product.run(DEVGUARD_PORT=str(free_port + 1))

        assert second.returncode == ExitCode.ALREADY_RUNNING
        assert f"process {product.process.pid}" in second.stderr
        assert product.get("/")

    def test_refuses_a_taken_port_before_it_starts_anything(self, product: Product) -> None:
        with socket.create_server(("127.0.0.1", product.port)):
            refused = product.run()

        assert refused.returncode == ExitCode.PORT_TAKEN
        assert f"Port {product.port} is taken" in refused.stderr
        assert not (product.home / "postgres").exists()

    def test_refuses_a_home_that_cannot_be_written(self, product: Product, folder: Path) -> None:
        (folder / "file").write_text("")

        refused = product.run(DEVGUARD_HOME=str(folder / "file" / "home"))

        assert refused.returncode == ExitCode.HOME_UNUSABLE
        assert "Cannot use DEVGUARD_HOME" in refused.stderr
        assert "Traceback" not in refused.stderr

    def test_refuses_a_setting_by_its_name(self, product: Product) -> None:
        refused = product.run(DEVGUARD_WEB_WORKERS="many")

        assert refused.returncode == ExitCode.SETTINGS
        assert "DEVGUARD_WEB_WORKERS" in refused.stderr

    def test_stops_again_when_the_database_cannot_be_migrated(self, product: Product) -> None:
        (product.tree / "broken").touch()

        refused = product.run()

        assert refused.returncode == ExitCode.MIGRATION_FAILED
        assert "there is no such table" in refused.stderr
        assert not (product.home / "postgres" / "postmaster.pid").exists()


class TestStop:
    def test_finishes_the_request_and_the_task_under_way(
        self, product: Product, folder: Path
    ) -> None:
        product.start().wait_until_ready()
        product.wait_for_part("worker")
        note, answers = folder / "note", []
        send_nap(product.home, note)
        wait_for(note.exists, 60, product.output)
        request = threading.Thread(target=lambda: answers.append(product.get("/slow")))
        request.start()
        time.sleep(0.3)

        code = product.stop()

        request.join()
        assert code == ExitCode.STOPPED
        assert len(answers) == 1
        assert note.read_text() == "ended"
        assert "database system is shut down" in product.output()

    def test_hears_ctrl_c(self, product: Product) -> None:
        product.start().wait_until_ready()

        product.process.send_signal(signal.SIGINT)

        assert product.process.wait(30) == ExitCode.STOPPED


class TestLookAfter:
    def test_starts_again_each_part_that_was_killed(self, product: Product) -> None:
        product.start().wait_until_ready()
        names = ("web", "worker", "beat", "redis", "postgres")
        killed = {name: product.wait_for_part(name).pid for name in names}

        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)

        for name, pid in killed.items():
            product.wait_for_part(name, other_than=pid)
        product.wait_until_ready()
        assert product.stop() == ExitCode.STOPPED

    def test_recovers_at_the_next_start_after_kill_9_of_everything(self, product: Product) -> None:
        product.start().wait_until_ready()
        product.kill_everything()

        product.start().wait_until_ready()

        assert product.stop() == ExitCode.STOPPED

    def test_parts_end_with_a_supervisor_that_was_killed(self, product: Product) -> None:
        product.start().wait_until_ready()
        answering: set[bytes] = set()
        wait_for(lambda: answering.add(product.get("/")) or len(answering) == 2, 60)
        parts = [product.wait_for_part(name) for name in ("web", "worker", "redis", "postgres")]

        product.process.kill()
        product.process.wait()

        wait_for(lambda: not any(part.is_running() for part in parts), 60)
