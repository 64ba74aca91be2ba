from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import pytest
from sqlalchemy import NullPool, create_engine, text

from app.embedded import postgres
from app.embedded.accounts import servers_account
from app.embedded.exits import ExitCode, StartFault
from config import embedded_socket_directory


def ask(server: postgres.PostgresServer, question: str) -> object:
    engine = create_engine(server.url(), poolclass=NullPool)
    with engine.begin() as connection:
        answer = connection.execute(text(question))
        return answer.scalar() if answer.returns_rows else None


class TestStartPostgres:
    def test_keeps_data_over_a_restart(self, home: Path) -> None:
        server = postgres.start_postgres(home, durable=False)
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.stop()

        server = postgres.start_postgres(home, durable=False)

        assert ask(server, "SELECT answer FROM kept") == 42
        server.stop()

    def test_recovers_after_kill_9_what_was_committed(self, home: Path) -> None:
        server = postgres.start_postgres(home)
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.process.kill()
        server.process.wait()

        server = postgres.start_postgres(home)

        assert ask(server, "SELECT answer FROM kept") == 42
        server.stop()

    def test_is_set_up_as_documented(self, home: Path) -> None:
        server = postgres.start_postgres(home, durable=False)
        shown = {
            name: ask(server, f"SHOW {name}")
            for name in ("server_encoding", "timezone", "jit", "data_checksums", "listen_addresses")
        }
        major = ask(server, "SELECT current_setting('server_version_num')::int / 10000")
        locale = ask(server, "SELECT datlocale FROM pg_database WHERE datname = 'devguard'")
        server.stop()

        assert major == 18
        assert locale == "C.UTF-8"
        assert shown == {
            "server_encoding": "UTF8",
            "timezone": "UTC",
            "jit": "off",
            "data_checksums": "on",
            "listen_addresses": "",
        }

    def test_listens_on_a_private_socket_only(self, home: Path) -> None:
        server = postgres.start_postgres(home, durable=False)
        listening = psutil.Process(server.process.pid).net_connections(kind="inet")
        mode = stat.S_IMODE(embedded_socket_directory(home).stat().st_mode)
        server.stop()

        assert listening == []
        assert mode == 0o700

    def test_forgives_lock_files_that_name_another_process(self, home: Path) -> None:
        server = postgres.start_postgres(home, durable=False)
        lock = (home / "postgres" / "postmaster.pid").read_text()
        server.stop()
        _, _, rest = lock.partition("\n")
        (home / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{rest}")
        (home / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")

        server = postgres.start_postgres(home, durable=False)

        assert ask(server, "SELECT 1") == 1
        server.stop()

    def test_works_where_the_path_is_long_and_strange(self, folder: Path) -> None:
        home = folder / ("ä b%c+d&" * 12) / "home"
        home.mkdir(parents=True)
        server = postgres.start_postgres(home, durable=False)
        sockets = embedded_socket_directory(home)

        assert sockets.parent == Path("/tmp")
        assert ask(server, "SELECT 1") == 1
        server.stop()
        sockets.rmdir()

    def test_makes_the_data_folder_whole_or_not_at_all(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres, "DATABASE", "not a name")

        with pytest.raises(StartFault) as refused:
            postgres.start_postgres(home, durable=False)

        assert refused.value.code is ExitCode.SERVER_FAILED
        assert not (home / "postgres").exists()
        assert list(home.glob(f"{postgres.DRAFT_PREFIX}*")) == []

    def test_refuses_data_of_another_version(self, home: Path) -> None:
        (home / "postgres").mkdir(parents=True)
        (home / "postgres" / "PG_VERSION").write_text("17\n")

        with pytest.raises(StartFault, match="PostgreSQL 17"):
            postgres.start_postgres(home)

    def test_refuses_a_socket_folder_of_somebody_else(self, home: Path) -> None:
        home.mkdir()
        (home / "run").symlink_to("/tmp", target_is_directory=True)

        with pytest.raises(StartFault) as refused:
            postgres.start_postgres(home)

        assert refused.value.code is ExitCode.HOME_UNUSABLE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another user")
class TestServersAccount:
    def test_runs_as_an_unprivileged_user(self, home: Path) -> None:
        server = postgres.start_postgres(home, durable=False)
        uid = psutil.Process(server.process.pid).uids().effective
        server.stop()

        assert uid != 0
        assert (home / "postgres").stat().st_uid == uid

    def test_keeps_one_capability_only_where_a_folder_is_closed(self, folder: Path) -> None:
        closed, opened = folder / "home", folder / "opened" / "home"
        folder.chmod(0o755)
        opened.mkdir(parents=True)

        outside = servers_account(data=opened / "postgres", reached=(opened / "postgres",))
        folder.chmod(0o700)
        inside = servers_account(data=closed / "postgres", reached=(closed / "postgres",))

        assert outside is not None
        assert outside.capability is None
        assert inside is not None
        assert inside.capability is not None

    def test_names_the_closed_folder_where_no_capability_is_left(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.embedded.accounts._reaching_capability", lambda: None)

        with pytest.raises(StartFault, match=str(folder)) as refused:
            servers_account(data=folder / "postgres", reached=(folder / "postgres",))

        assert refused.value.code is ExitCode.HOME_UNUSABLE
