from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from app.embedded.exits import ExitCode, StartFault
from app.embedded.homes import HomeLock, home_fault, prepare_home


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class TestPrepareHome:
    def test_refuses_a_full_disk(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1, 1, 10_000_000))

        with pytest.raises(StartFault, match="10 MB left") as refused:
            prepare_home(home, embedded=True)

        assert refused.value.code is ExitCode.DISK_FULL

    def test_needs_no_room_for_databases_that_are_elsewhere(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1, 1, 10_000_000))

        prepare_home(home, embedded=False)

        assert (home / "log").is_dir()

    @pytest.mark.parametrize(
        ("number", "code"),
        [
            (errno.ENOSPC, ExitCode.DISK_FULL),
            (errno.EDQUOT, ExitCode.DISK_FULL),
            (errno.EACCES, ExitCode.HOME_UNUSABLE),
            (errno.EROFS, ExitCode.HOME_UNUSABLE),
        ],
    )
    def test_tells_a_full_disk_from_a_closed_one(
        self, home: Path, number: int, code: ExitCode
    ) -> None:
        assert home_fault(home, OSError(number, "refused", str(home))).code is code


class TestHomeLock:
    def test_is_held_by_one_at_a_time(self, folder: Path) -> None:
        with HomeLock(folder):
            assert not HomeLock(folder).take()
            with pytest.raises(StartFault, match="already runs"), HomeLock(folder):
                pass

        with HomeLock(folder):
            pass
