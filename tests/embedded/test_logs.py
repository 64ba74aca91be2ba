from __future__ import annotations

from pathlib import Path

import pytest

from app.embedded import logs
from app.embedded.logs import LogFile, last_lines


class TestLogFile:
    def test_keeps_its_size_within_bounds(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "MOST_BYTES", 100)
        log = LogFile(folder / "web.log")

        for number in range(50):
            log.write(b"line %d\n" % number)
        log.close()

        assert sum(path.stat().st_size for path in folder.iterdir()) < 300
        assert last_lines(folder / "web.log", count=1) == "line 49"

    def test_survives_a_folder_that_has_gone(self, folder: Path) -> None:
        log = LogFile(folder / "gone" / "web.log")

        log.write(b"nobody hears this\n")

        assert last_lines(log.path) == ""
