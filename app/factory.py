"""The application: extensions, kit and blueprints bound together - never a route, never a rule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Flask, Request, Response, g, request
from flask.sessions import SessionInterface, SessionMixin
from redis import Redis
from werkzeug.middleware.proxy_fix import ProxyFix

from app import VERSION, api, cli, models
from app.extensions import celery, cors, db, jwt, limiter, migrate
from app.kit import request_body, security_headers
from app.kit.logging import bind_context, clear_context, configure_logging, request_id_from
from app.kit.patience import begin_hurry, end_hurry
from app.kit.problems import register_problem_handlers
from app.kit.rate_limit_headers import tell_limits
from app.kit.rate_limits import RateClass, limits_url
from app.kit.tenancy import bind_tenancy, leave_organization
from config import Config

# In seconds, where not said otherwise: a server that went away without a word is noticed in the end.
GIVE_UP = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}


def build_app(config: Config) -> Flask:
    """Return the application for these settings."""
    configure_logging(config.log_level)
    app = Flask("app", static_folder="static", static_url_path="/static")
    app.config.update(_flask_settings(config))
    app.extensions["devguard"] = config
    # First, so that it has the last word on every answer.
    _bind_requests(app)
    _bind_extensions(app, config)
    register_problem_handlers(app)
    api.register_blueprints(app)
    cli.register_commands(app)
    return app


def _flask_settings(config: Config) -> dict[str, Any]:
    return {
        "VERSION": VERSION,
        "SECRET_KEY": config.secret_key,
        "JWT_SECRET_KEY": config.jwt_secret_key,
        "JWT_ALGORITHM": "HS256",
        "JWT_DECODE_AUDIENCE": "devguard",
        "JWT_ENCODE_AUDIENCE": "devguard",
        "JWT_ENCODE_ISSUER": "devguard",
        "JWT_DECODE_ISSUER": "devguard",
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=config.access_token_minutes),
        "SQLALCHEMY_DATABASE_URI": config.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": {
            "pool_size": config.pool_size,
            "max_overflow": config.pool_max_overflow,
            "pool_recycle": config.pool_recycle_s,
            # kit/patience.py asks a connection whether it lives when it idled for a second.
            "pool_pre_ping": False,
            "pool_timeout": 10,
            # Values of a failed statement have no place in a log.
            "hide_parameters": True,
            "connect_args": {"application_name": "devguard", **GIVE_UP},
        },
        "RATELIMIT_ENABLED": config.ratelimit_enabled,
        "RATELIMIT_STORAGE_URI": limits_url(config.redis_url),
        "RATELIMIT_STORAGE_OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
        # Flask-Limiter's own would be sent beside ours, and its Retry-After instead of that of a 503.
        "RATELIMIT_HEADERS_ENABLED": False,
        "RATELIMIT_STRATEGY": "moving-window",
        "RATE_CLASSES": {
            RateClass.ANONYMOUS: config.ratelimit_anonymous,
            RateClass.AUTH: config.ratelimit_auth,
            RateClass.READ: config.ratelimit_read,
            RateClass.WRITE: config.ratelimit_write,
            RateClass.INGEST: config.ratelimit_ingest,
        },
        "CORS_ORIGINS": list(config.cors_origins),
        # A body is bounded by the route that reads it; this is the last wall behind all of them.
        "MAX_CONTENT_LENGTH": 67_108_864,
        "PROPAGATE_EXCEPTIONS": False,
    }


def _bind_extensions(app: Flask, config: Config) -> None:
    db.init_app(app)
    migrate.init_app(app, db)
    jwt.init_app(app)
    limiter.init_app(app)
    if config.cors_origins:
        cors.init_app(app, resources={r"/api/*": {"origins": list(config.cors_origins)}})
    app.extensions["redis"] = Redis.from_url(
        config.redis_url, socket_timeout=2, socket_connect_timeout=2
    )
    models.load()
    with app.app_context():
        bind_tenancy(db.engine)
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    celery.conf.update(broker_url=config.celery_broker_url)


class NoCookieSessions(SessionInterface):
    """Credentials come in the Authorization header: no cookie is read or signed."""

    def open_session(self, app: Flask, request: Request) -> None:
        del app, request

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        del app, session, response
        raise RuntimeError("no cookie session is ever opened")


def _bind_requests(app: Flask) -> None:
    app.session_interface = NoCookieSessions()

    @app.before_request
    def name_request() -> None:
        clear_context()
        leave_organization()
        begin_hurry()
        g.request_id = request_id_from(request.headers.get("X-Request-Id"))
        bind_context(request_id=g.request_id)

    @app.after_request
    def finish_answer(response: Response) -> Response:
        if response.status_code >= 400:
            request_body.discard_rest()
        tell_limits(response)
        response.headers["X-Request-Id"] = g.get("request_id", "")
        return security_headers.harden(response, is_authenticated="actor" in g)

    @app.teardown_request
    def forget_request(_error: BaseException | None) -> None:
        clear_context()
        leave_organization()

    @app.teardown_appcontext
    def take_time_again(_error: BaseException | None) -> None:
        # Behind the end of the session, whose rollback waits for the database, too.
        end_hurry()
