"""Under which user the embedded servers run: PostgreSQL refuses root."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from app.embedded.exits import ExitCode, StartFault

# An own user where the operator made one, else the one that every system has. No user is created:
# trying a product must not change /etc/passwd.
UNPRIVILEGED_USERS = ("devguard", "nobody")
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the system, and the capability of root that it keeps in order to reach its folders."""

    uid: int
    gid: int
    capability: int | None = None


def servers_account(*, data: Path, reached: tuple[Path, ...]) -> Account | None:
    """Return the user for the embedded servers, None when it is the user of this process.

    `data` is the folder of a server's data: whom it belongs to already stays its user. `reached` are the paths that the
    user must get at. Raises StartFault(HOME_UNUSABLE) when there is no such user or it cannot reach them.
    """
    if os.geteuid() != 0:
        return None
    account = _owner_of(data) or _unprivileged_user()
    blocked = next((folder for path in reached if (folder := blocked_at(path, account))), None)
    if blocked is None:
        return account
    capability = _reaching_capability()
    if capability is None:
        raise StartFault(
            ExitCode.HOME_UNUSABLE,
            f"PostgreSQL cannot run as root, and the user {account.uid} that it runs as instead cannot enter {blocked}. "
            f"Allow it (chmod o+x {blocked}), move DEVGUARD_HOME, or start DevGuard as an ordinary user.",
        )
    return replace(account, capability=capability)


def blocked_at(path: Path, account: Account) -> Path | None:
    """Return the first folder above the path that the user cannot enter, None when all are open."""
    for folder in reversed(path.absolute().parents):
        if not folder.exists():
            return None
        status = folder.stat()
        if status.st_uid == account.uid:
            bit = 0o100
        elif status.st_gid == account.gid:
            bit = 0o010
        else:
            bit = 0o001
        if not status.st_mode & bit:
            return folder
    return None


def check_own(folder: Path, account: Account | None) -> None:
    """Refuse a folder that somebody else prepared for us: who owns it could answer our connections.

    Raises StartFault(HOME_UNUSABLE).
    """
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    ours = {os.geteuid()} | ({account.uid} if account else set())
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in ours:
        raise StartFault(
            ExitCode.HOME_UNUSABLE,
            f"{folder} should be a folder of DevGuard's own but is not (it belongs to "
            f"{_user_name(status.st_uid)}); remove it, or give DEVGUARD_HOME a shorter path.",
        )


def give(folder: Path, account: Account | None) -> None:
    """Make the folder, for the servers only (mode 0700), theirs; what is in it too when it was another's.

    Raises StartFault(HOME_UNUSABLE) when it belongs to somebody else and this process may not change that.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    uid = os.geteuid() if account is None else account.uid
    status = folder.lstat()
    if status.st_uid != uid:
        if account is None:
            raise StartFault(
                ExitCode.HOME_UNUSABLE,
                f"{folder} belongs to another user ({_user_name(status.st_uid)}); start DevGuard as that user, "
                "or set DEVGUARD_HOME to a folder of your own.",
            )
        _give_all(folder, account)
    folder.chmod(0o700)


def _give_all(folder: Path, account: Account) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _owner_of(folder: Path) -> Account | None:
    if not folder.exists() or (status := folder.stat()).st_uid == 0:
        return None
    return Account(status.st_uid, status.st_gid)


def _unprivileged_user() -> Account:
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise StartFault(
        ExitCode.HOME_UNUSABLE,
        "PostgreSQL cannot run as root, and there is no user `devguard` or `nobody` to run it as.",
    )


def _reaching_capability() -> int | None:
    """Return the least capability that enters closed folders and that this process has (containers drop some)."""
    if sys.platform != "linux":
        return None
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if all(_capabilities(row) >> capability & 1 for row in ("CapPrm", "CapBnd")):
            return capability
    return None


def _capabilities(row: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{row}:"):
            return int(line.split()[1], 16)
    return 0


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
