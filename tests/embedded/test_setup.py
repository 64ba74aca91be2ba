"""What setup.sh says when it cannot go on; that it can is what .ci/run shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.embedded.exits import ExitCode
from tests.embedded.conftest import ROOT


@pytest.fixture
def clone(folder: Path) -> Path:
    """A clean clone, as far as setup.sh looks before it starts the product."""
    clone = folder / "clone"
    clone.mkdir()
    for name in ("setup.sh", "constraints.txt", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, clone)
    return clone


def run_setup(clone: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(clone / "setup.sh"), "install"],
        env={**os.environ, **changed},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class TestSetup:
    def test_names_the_python_that_is_too_old(self, clone: Path, folder: Path) -> None:
        old = program(folder / "python3.9", "exit 1")

        refused = run_setup(clone, PYTHON=str(old))

        assert refused.returncode == ExitCode.NO_PYTHON
        assert f"PYTHON={old} is not Python 3.11" in refused.stderr

    def test_says_how_to_get_a_python_where_there_is_none(self, clone: Path, folder: Path) -> None:
        tools = folder / "bin"
        tools.mkdir()
        for name in ("bash", "dirname", "df", "awk", "cat", "cksum", "sed"):
            (tools / name).symlink_to(str(shutil.which(name)))

        refused = run_setup(clone, PATH=str(tools), PYTHON="")

        assert refused.returncode == ExitCode.NO_PYTHON
        assert "apt install python3" in refused.stderr

    def test_says_which_package_brings_venv(self, clone: Path, folder: Path) -> None:
        bare = program(
            folder / "python3.11",
            f'case "$*" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac',
        )

        refused = run_setup(clone, PYTHON=str(bare))

        assert refused.returncode == ExitCode.NO_VENV
        assert "apt install python3-venv" in refused.stderr
        assert not (clone / ".venv").exists()

    def test_refuses_a_disk_without_room(self, clone: Path, folder: Path) -> None:
        tools = folder / "bin"
        tools.mkdir()
        program(tools / "df", "echo header; echo disk 1 1 5000 99% /")

        refused = run_setup(clone, PATH=f"{tools}:{os.environ['PATH']}")

        assert refused.returncode == ExitCode.DISK_FULL
        assert "has 5 MB left" in refused.stderr

    def test_refuses_a_folder_that_it_cannot_write(self, clone: Path, folder: Path) -> None:
        folder.chmod(0o755)
        clone.chmod(0o555)

        refused = subprocess.run(
            ["bash", str(clone / "setup.sh"), "install"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            user="nobody" if os.geteuid() == 0 else None,
        )

        assert refused.returncode == ExitCode.HOME_UNUSABLE
        assert "cannot write the folder" in refused.stderr

    def test_does_not_take_a_broken_off_installation_for_whole(self, clone: Path) -> None:
        (clone / "requirements.txt").write_text("no-such-package-of-devguard==1.0\n")

        refused = run_setup(clone, PIP_NO_INDEX="1")

        assert refused.returncode == ExitCode.INSTALL_FAILED
        assert (clone / ".venv" / ".installing").exists()
        assert not (clone / ".venv" / ".installed-run").exists()
