"""Settings of one process, read once from the environment: the only reader of `os.environ`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import quote

WEAK_SECRETS = frozenset({"change-me", "changeme", "secret", "dev", "devguard", "password"})
MINIMUM_SECRET_BYTES = 32
_RATE = r"[1-9]\d{0,8} per ([1-9]\d{0,3} )?(second|minute|hour|day)s?"
RATES = re.compile(rf"{_RATE}(;{_RATE})*", re.ASCII)
# A UNIX socket path may have 107 bytes; PostgreSQL appends "/.s.PGSQL.5432".
LONGEST_SOCKET_DIRECTORY = 80
ENCRYPTION_KEY_BYTES = 32
MINIMUM_PASSPHRASE_CHARACTERS = 16

Network = IPv4Network | IPv6Network


class ConfigError(Exception):
    """A setting that the product refuses to start with; the message names it and the rule."""


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """What a key-encryption key is: 32 bytes, or the passphrase that they are derived from."""

    key: bytes = field(default=b"", repr=False)
    passphrase: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that one process of DevGuard was told from outside."""

    home: Path
    host: str
    port: int
    embedded: bool
    database_url: str
    redis_url: str
    celery_broker_url: str
    celery_result_backend: str
    secret_key: str = field(repr=False)
    jwt_secret_key: str = field(repr=False)
    # The first seals the audit log; the others verify what was sealed before a change of keys.
    audit_keys: tuple[str, ...] = field(repr=False)
    # None: nothing can be encrypted. The old one only opens what it wrapped, until `flask keys rotate-kek`.
    encryption_key: KeyMaterial | None = None
    encryption_old_key: KeyMaterial | None = None
    outbound_allow: tuple[Network, ...] = ()
    outbound_ports: tuple[tuple[int, int], ...] = ((80, 80), (443, 443))
    pool_size: int = 10
    pool_max_overflow: int = 20
    pool_recycle_s: int = 3600
    web_workers: int = 2
    worker_concurrency: int = 2
    ratelimit_enabled: bool = True
    ratelimit_anonymous: str = "200 per day;50 per hour"
    ratelimit_auth: str = "5 per minute"
    ratelimit_read: str = "600 per minute"
    ratelimit_write: str = "300 per minute"
    ratelimit_ingest: str = "6000 per minute"
    login_failures_per_place: str = "5 per 15 minutes"
    login_failures_per_address: str = "20 per 5 minutes"
    login_failures_everywhere: str = "50 per hour"
    trusted_proxies: int = 0
    cors_origins: tuple[str, ...] = ()
    password_scheme: str = "bcrypt"  # noqa: S105 - the name of a scheme
    bcrypt_rounds: int = 12
    breached_passwords: Path | None = None
    access_token_minutes: int = 10
    refresh_token_days: int = 30
    session_idle_minutes: int = 10_080
    registration_open: bool = True
    retention_days: int = 90
    compress_after_days: int = 7
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Return the settings of this process.

        Raises ConfigError naming the setting and the rule when a value is missing, malformed or weak.
        """
        env = os.environ if environ is None else environ
        home = home_of(env)
        embedded = not env.get("DATABASE_URL") and not env.get("REDIS_URL")
        redis_url = _redis_url(env, home=home, embedded=embedded)
        broker_url = env.get("CELERY_BROKER_URL") or celery_url(redis_url)
        return cls(
            home=home,
            host=env.get("DEVGUARD_HOST") or "127.0.0.1",
            port=_integer(env, "DEVGUARD_PORT", default=5000, least=1, most=65535),
            embedded=embedded,
            database_url=_database_url(env, home=home, embedded=embedded),
            redis_url=redis_url,
            celery_broker_url=broker_url,
            celery_result_backend=env.get("CELERY_RESULT_BACKEND") or broker_url,
            secret_key=_secret(env, "SECRET_KEY", home=home, embedded=embedded),
            jwt_secret_key=_secret(env, "JWT_SECRET_KEY", home=home, embedded=embedded),
            encryption_key=_encryption_key(env, home=home, embedded=embedded),
            encryption_old_key=_key_material(env, "DEVGUARD_ENCRYPTION_OLD_"),
            outbound_allow=_networks(env, "DEVGUARD_OUTBOUND_ALLOW"),
            outbound_ports=_ports(env, "DEVGUARD_OUTBOUND_PORTS", default="80,443"),
            audit_keys=_audit_keys(env, home=home, embedded=embedded),
            pool_size=_integer(env, "DEVGUARD_POOL_SIZE", default=10, least=1, most=1000),
            pool_max_overflow=_integer(
                env, "DEVGUARD_POOL_MAX_OVERFLOW", default=20, least=0, most=1000
            ),
            pool_recycle_s=_integer(
                env, "DEVGUARD_POOL_RECYCLE_S", default=3600, least=1, most=86_400
            ),
            web_workers=_integer(env, "DEVGUARD_WEB_WORKERS", default=2, least=1, most=64),
            worker_concurrency=_integer(
                env, "DEVGUARD_WORKER_CONCURRENCY", default=2, least=1, most=64
            ),
            ratelimit_enabled=_boolean(env, "RATELIMIT_ENABLED", default=True),
            ratelimit_anonymous=env.get("RATELIMIT_ANONYMOUS") or "200 per day;50 per hour",
            ratelimit_auth=env.get("RATELIMIT_AUTH") or "5 per minute",
            ratelimit_read=env.get("RATELIMIT_READ") or "600 per minute",
            ratelimit_write=env.get("RATELIMIT_WRITE") or "300 per minute",
            ratelimit_ingest=env.get("RATELIMIT_INGEST") or "6000 per minute",
            login_failures_per_place=_rates(
                env, "DEVGUARD_LOGIN_FAILURES_PER_PLACE", default="5 per 15 minutes"
            ),
            login_failures_per_address=_rates(
                env, "DEVGUARD_LOGIN_FAILURES_PER_ADDRESS", default="20 per 5 minutes"
            ),
            login_failures_everywhere=_rates(
                env, "DEVGUARD_LOGIN_FAILURES_EVERYWHERE", default="50 per hour"
            ),
            trusted_proxies=_integer(env, "DEVGUARD_TRUSTED_PROXIES", default=0, least=0, most=10),
            cors_origins=_origins(env),
            password_scheme=_password_scheme(env),
            bcrypt_rounds=_integer(env, "DEVGUARD_BCRYPT_ROUNDS", default=12, least=4, most=16),
            breached_passwords=_readable_file(env, "DEVGUARD_BREACHED_PASSWORDS"),
            access_token_minutes=_integer(
                env, "DEVGUARD_ACCESS_TOKEN_MINUTES", default=10, least=1, most=1440
            ),
            refresh_token_days=_integer(
                env, "DEVGUARD_REFRESH_TOKEN_DAYS", default=30, least=1, most=365
            ),
            session_idle_minutes=_integer(
                env, "DEVGUARD_SESSION_IDLE_MINUTES", default=10_080, least=15, most=525_600
            ),
            registration_open=_boolean(env, "DEVGUARD_REGISTRATION_OPEN", default=True),
            retention_days=_integer(env, "DEVGUARD_RETENTION_DAYS", default=90, least=1, most=3650),
            compress_after_days=_integer(
                env, "DEVGUARD_COMPRESS_AFTER_DAYS", default=7, least=1, most=3650
            ),
            log_level=_log_level(env),
        )


def home_of(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of this installation, absolute; it may not exist yet."""
    env = os.environ if environ is None else environ
    return Path(env.get("DEVGUARD_HOME") or ".devguard").expanduser().resolve()


def embedded_socket_directory(home: Path) -> Path:
    """Return where the embedded servers of this home put their sockets: the same for every process.

    Under the home itself where the path is short enough for a UNIX socket, else the temporary folder.
    """
    inside = home / "run"
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_DIRECTORY:
        return inside
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    # Not tempfile.gettempdir(): TMPDIR may differ between the processes of one home.
    return Path("/tmp") / f"devguard-{digest}"  # noqa: S108


def embedded_postgres_url(home: Path, *, database: str = "devguard") -> str:
    """Return the address of the embedded PostgreSQL of this home, for SQLAlchemy."""
    directory = quote(str(embedded_socket_directory(home)))
    return f"postgresql+psycopg://postgres@/{database}?host={directory}&port=5432"


def embedded_redis_url(home: Path) -> str:
    """Return the address of the embedded Redis of this home."""
    return f"unix://{quote(str(embedded_socket_directory(home)))}/redis.sock?db=0"


def sqlalchemy_url(database_url: str) -> str:
    """Return the URL with the driver named, because `postgresql://` means another one to each version."""
    for prefix in (
        "postgresql+psycopg://",
        "postgresql+psycopg2://",
        "postgresql://",
        "postgres://",
    ):
        if database_url.startswith(prefix):
            return "postgresql+psycopg://" + database_url.removeprefix(prefix)
    raise ConfigError("DATABASE_URL: must begin with postgresql://")


def celery_url(redis_url: str) -> str:
    """Return the Redis address as Celery spells it (a socket has a scheme of its own there)."""
    if redis_url.startswith("unix://"):
        path, _, query = redis_url.removeprefix("unix://").partition("?")
        database = dict(pair.partition("=")[::2] for pair in query.split("&")).get("db", "0")
        return f"redis+socket://{path}?virtual_host={database}"
    return redis_url


def _database_url(env: Mapping[str, str], *, home: Path, embedded: bool) -> str:
    if embedded:
        return embedded_postgres_url(home)
    if not env.get("DATABASE_URL"):
        raise ConfigError("DATABASE_URL: must be set when REDIS_URL is set (or unset both)")
    return sqlalchemy_url(env["DATABASE_URL"])


def _redis_url(env: Mapping[str, str], *, home: Path, embedded: bool) -> str:
    if embedded:
        return embedded_redis_url(home)
    if not env.get("REDIS_URL"):
        raise ConfigError("REDIS_URL: must be set when DATABASE_URL is set (or unset both)")
    url = env["REDIS_URL"]
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigError("REDIS_URL: must begin with redis://, rediss:// or unix://")
    return url


def _secret(env: Mapping[str, str], name: str, *, home: Path, embedded: bool) -> str:
    value = env.get(name) or (_kept_secret(home, name) if embedded else "")
    if not value:
        raise ConfigError(f"{name}: must be set (at least {MINIMUM_SECRET_BYTES} bytes)")
    if len(value.encode()) < MINIMUM_SECRET_BYTES:
        raise ConfigError(f"{name}: must have at least {MINIMUM_SECRET_BYTES} bytes")
    if value.lower() in WEAK_SECRETS or len(set(value)) < 8:
        raise ConfigError(f"{name}: is too easy to guess; use `openssl rand -hex 32`")
    return value


def _audit_keys(env: Mapping[str, str], *, home: Path, embedded: bool) -> tuple[str, ...]:
    keys = tuple(part.strip() for part in (env.get("AUDIT_KEYS") or "").split(",") if part.strip())
    if any(len(key.encode()) < MINIMUM_SECRET_BYTES for key in keys):
        raise ConfigError(f"AUDIT_KEYS: each must have at least {MINIMUM_SECRET_BYTES} bytes")
    return keys or (_secret(env, "SECRET_KEY", home=home, embedded=embedded),)


def _kept_secret(home: Path, name: str) -> str:
    """Return the secret of this home, made at the first call; readable by its owner only."""
    path = home / "secrets" / name.lower()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            return path.read_text().strip()
        # Written aside and linked into place, so that of two first starts both read one secret.
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"DEVGUARD_HOME: cannot keep {name} in {path}: {error}") from error


def _encryption_key(env: Mapping[str, str], *, home: Path, embedded: bool) -> KeyMaterial | None:
    given = _key_material(env, "DEVGUARD_ENCRYPTION_")
    if given is None and embedded:
        return KeyMaterial(key=bytes.fromhex(_kept_secret(home, "DEVGUARD_ENCRYPTION_KEY")))
    return given


def _key_material(env: Mapping[str, str], prefix: str) -> KeyMaterial | None:
    """Return the key that one of `<prefix>KEY`, `<prefix>KEY_FILE`, `<prefix>PASSPHRASE` gives, if any."""
    forms = {form: env.get(prefix + form) for form in ("KEY", "KEY_FILE", "PASSPHRASE")}
    given = [prefix + form for form, value in forms.items() if value]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: set one of them only")
    if forms["PASSPHRASE"]:
        return KeyMaterial(passphrase=_passphrase(forms["PASSPHRASE"], given[0]))
    if forms["KEY_FILE"]:
        return KeyMaterial(key=_key_bytes(_file_content(forms["KEY_FILE"], given[0]), given[0]))
    return KeyMaterial(key=_key_bytes(forms["KEY"].encode(), given[0])) if forms["KEY"] else None


def _passphrase(value: str, name: str) -> str:
    if len(value) < MINIMUM_PASSPHRASE_CHARACTERS or len(set(value)) < 8:
        raise ConfigError(
            f"{name}: must have at least {MINIMUM_PASSPHRASE_CHARACTERS} characters, 8 different ones"
        )
    return value


def _file_content(path: str, name: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}: cannot read {path}: {error.strerror}") from None


def _key_bytes(content: bytes, name: str) -> bytes:
    """Return the 32 bytes that stand there as base64, as hexadecimal digits or as they are."""
    written = content.strip()
    try:
        # Only what no keyboard makes: 32 letters and digits have far less than 256 bits.
        if len(content) == ENCRYPTION_KEY_BYTES and not content.isascii():
            key = content
        elif re.fullmatch(rb"[0-9a-fA-F]{64}", written):
            key = bytes.fromhex(written.decode())
        else:
            key = base64.b64decode(written.replace(b"-", b"+").replace(b"_", b"/"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != ENCRYPTION_KEY_BYTES:
        raise ConfigError(f"{name}: must be 32 bytes as base64 (openssl rand -base64 32)")
    if len(set(key)) < 8:
        raise ConfigError(f"{name}: is too easy to guess; use `openssl rand -base64 32`")
    return key


def _networks(env: Mapping[str, str], name: str) -> tuple[Network, ...]:
    parts = [part.strip() for part in (env.get(name) or "").split(",") if part.strip()]
    try:
        return tuple(ip_network(part) for part in parts)
    except ValueError as error:
        raise ConfigError(f"{name}: must be networks such as 10.0.0.0/8: {error}") from None


def _ports(env: Mapping[str, str], name: str, *, default: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in (env.get(name) or default).split(","):
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip())
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= least <= most <= 65535:
            raise ConfigError(f"{name}: must be ports or ranges such as 80,443,8000-8999")
        ranges.append((least, most))
    return tuple(ranges)


def _integer(env: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    raw = env.get(name)
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        raise ConfigError(f"{name}: must be a whole number, not {raw!r}") from None
    if not least <= value <= most:
        raise ConfigError(f"{name}: must be between {least} and {most}, not {value}")
    return value


def _boolean(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    raw = (env.get(name) or "").strip().lower()
    if not raw:
        return default
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise ConfigError(f"{name}: must be true or false, not {raw!r}")


def _origins(env: Mapping[str, str]) -> tuple[str, ...]:
    origins = tuple(
        part.strip() for part in (env.get("CORS_ORIGINS") or "").split(",") if part.strip()
    )
    if "*" in origins:
        raise ConfigError("CORS_ORIGINS: must list origins; `*` is refused")
    return origins


def _rates(env: Mapping[str, str], name: str, *, default: str) -> str:
    text = env.get(name) or default
    if not RATES.fullmatch(text):
        raise ConfigError(f"{name}: must be like `5 per 15 minutes;50 per hour`, not {text!r}")
    return text


def _password_scheme(env: Mapping[str, str]) -> str:
    scheme = (env.get("DEVGUARD_PASSWORD_SCHEME") or "bcrypt").lower()
    if scheme not in {"bcrypt", "argon2id"}:
        raise ConfigError("DEVGUARD_PASSWORD_SCHEME: must be bcrypt or argon2id")
    return scheme


def _readable_file(env: Mapping[str, str], name: str) -> Path | None:
    if not env.get(name):
        return None
    path = Path(env[name]).expanduser().resolve()
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ConfigError(f"{name}: must be a file that can be read")
    return path


def _log_level(env: Mapping[str, str]) -> str:
    level = (env.get("DEVGUARD_LOG_LEVEL") or "INFO").upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ConfigError("DEVGUARD_LOG_LEVEL: must be DEBUG, INFO, WARNING or ERROR")
    return level
