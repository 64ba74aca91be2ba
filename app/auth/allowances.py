"""How many failures each kind of attempt is allowed, by the settings. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from config import Config

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
RATE = re.compile(r"(\d+) per (?:(\d+) )?(second|minute|hour|day)s?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many failures in a time."""

    failures: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Allowances:
    """What is allowed of one kind of attempt.

    `everywhere` is soft: when it is used up, an unknown place of the account has one failure
    instead of those of `place`. So a botnet has one guess per network, and the owner still his.
    """

    kind: str
    # Per account and place, where a known device is a place of its own.
    place: tuple[Allowance, ...]
    address: tuple[Allowance, ...]
    everywhere: Allowance | None = None
    # Per account from everywhere but known devices, hard: for what can be guessed by many hands.
    account: tuple[Allowance, ...] = ()


FIVE_MINUTES = timedelta(minutes=5)
HOUR = timedelta(hours=1)
CODES_OF_ONE = (Allowance(5, FIVE_MINUTES), Allowance(20, HOUR), Allowance(50, timedelta(days=1)))
CODES_OF_ADDRESS = (Allowance(10, FIVE_MINUTES), Allowance(50, HOUR))
# A million codes, three of them right at any time: 50 guesses a day are one hit in 18 years.
TOTP = Allowances("mfa", place=CODES_OF_ONE, address=CODES_OF_ADDRESS, account=CODES_OF_ONE)
# 120 bits are guessed by nobody, so an owner always has this way in while others use up the other.
RECOVERY = Allowances("recovery", place=CODES_OF_ONE, address=CODES_OF_ADDRESS)


def password_allowances(config: Config) -> Allowances:
    """Return what is allowed of wrong passwords."""
    return Allowances(
        kind="password",
        place=allowances_of(config.login_failures_per_place),
        address=allowances_of(config.login_failures_per_address),
        everywhere=allowances_of(config.login_failures_everywhere)[0],
    )


def allowances_of(text: str) -> tuple[Allowance, ...]:
    """Return the allowances of "5 per 15 minutes;50 per hour"."""
    return tuple(
        Allowance(int(count), timedelta(seconds=int(times or 1) * SECONDS[unit]))
        for count, times, unit in RATE.findall(text)
    )
