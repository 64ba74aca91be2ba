from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import Config, ConfigError, embedded_socket_directory

ROOT = Path(__file__).parents[1]
STRONG = "0123456789abcdef0123456789abcdef"
GIVEN = {
    "DATABASE_URL": "postgresql://devguard@db/devguard",
    "REDIS_URL": "redis://redis:6379/0",
    "SECRET_KEY": STRONG,
    "JWT_SECRET_KEY": STRONG[::-1],
}


class AskedEnvironment(dict[str, str]):
    """An environment that remembers which settings were asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)


def example_settings() -> Iterator[tuple[str, str]]:
    product, _, _compose = (ROOT / ".env.example").read_text().partition("docker compose only")
    for name, value in re.findall(r"^([A-Z_]+)=(.*)$", product, flags=re.MULTILINE):
        yield name, value.strip('"')


class TestEnvExample:
    def test_names_exactly_the_settings_that_are_read(self, tmp_path: Path) -> None:
        embedded = AskedEnvironment({"DEVGUARD_HOME": str(tmp_path)})
        given = AskedEnvironment(GIVEN)
        Config.from_environment(embedded)
        Config.from_environment(given)

        assert dict(example_settings()).keys() == embedded.asked | given.asked

    def test_shows_the_defaults(self, tmp_path: Path) -> None:
        home = {"DEVGUARD_HOME": str(tmp_path)}

        assert Config.from_environment(
            {**dict(example_settings()), **home}
        ) == Config.from_environment(home)


class TestFromEnvironment:
    @pytest.mark.parametrize(
        ("changed", "rule"),
        [
            ({"SECRET_KEY": ""}, "SECRET_KEY: must be set"),
            ({"SECRET_KEY": "short"}, "SECRET_KEY: must have at least 32 bytes"),
            ({"JWT_SECRET_KEY": "a" * 40}, "JWT_SECRET_KEY: is too easy to guess"),
            ({"REDIS_URL": ""}, "REDIS_URL: must be set"),
            ({"DATABASE_URL": ""}, "DATABASE_URL: must be set"),
            ({"DATABASE_URL": "mysql://db"}, "DATABASE_URL: must begin with postgresql://"),
            ({"REDIS_URL": "http://redis"}, "REDIS_URL: must begin with redis://"),
            ({"DEVGUARD_PORT": "http"}, "DEVGUARD_PORT: must be a whole number"),
            ({"DEVGUARD_PORT": "70000"}, "DEVGUARD_PORT: must be between 1 and 65535"),
            ({"RATELIMIT_ENABLED": "maybe"}, "RATELIMIT_ENABLED: must be true or false"),
            ({"CORS_ORIGINS": "https://a.example,*"}, "CORS_ORIGINS: must list origins"),
            ({"DEVGUARD_LOG_LEVEL": "LOUD"}, "DEVGUARD_LOG_LEVEL: must be DEBUG"),
        ],
    )
    def test_refuses_by_name(self, changed: dict[str, str], rule: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(rule)):
            Config.from_environment({**GIVEN, **changed})

    def test_never_shows_its_secrets(self) -> None:
        assert STRONG not in repr(Config.from_environment(GIVEN))

    def test_names_the_driver_of_our_own_database(self) -> None:
        for scheme in ("postgres", "postgresql", "postgresql+psycopg2"):
            config = Config.from_environment({**GIVEN, "DATABASE_URL": f"{scheme}://db/devguard"})

            assert config.database_url == "postgresql+psycopg://db/devguard"


class TestKeptSecrets:
    def test_are_made_once_and_readable_by_their_owner_only(self, tmp_path: Path) -> None:
        first = Config.from_environment({"DEVGUARD_HOME": str(tmp_path)})
        again = Config.from_environment({"DEVGUARD_HOME": str(tmp_path)})

        assert first == again
        assert first.secret_key != first.jwt_secret_key
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()}
        assert modes == {0o600}
        assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700

    def test_are_the_same_for_processes_that_start_at_once(self, tmp_path: Path) -> None:
        program = "from config import Config; print(Config.from_environment().secret_key)"
        environment = {"DEVGUARD_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
            )
            for _ in range(6)
        ]

        assert len({process.communicate(timeout=30)[0] for process in started}) == 1

    def test_are_refused_when_they_cannot_be_kept(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")

        with pytest.raises(ConfigError, match="DEVGUARD_HOME: cannot keep SECRET_KEY"):
            Config.from_environment({"DEVGUARD_HOME": str(tmp_path / "file" / "home")})


class TestEmbeddedSocketDirectory:
    def test_is_short_enough_for_a_socket_and_differs_by_home(self, tmp_path: Path) -> None:
        deep = tmp_path / ("deep" * 30)
        directories = {embedded_socket_directory(deep / name) for name in ("one", "other")}

        assert len(directories) == 2
        assert all(len(str(directory)) <= 80 for directory in directories)


class TestPasswordSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("DEVGUARD_PASSWORD_SCHEME", "md5"),
            ("DEVGUARD_BREACHED_PASSWORDS", "/no/such/file"),
        ],
    )
    def test_are_refused_by_name(self, tmp_path, name, value):
        with pytest.raises(ConfigError, match=name):
            Config.from_environment({"DEVGUARD_HOME": str(tmp_path), name: value})
