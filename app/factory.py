"""The application: extensions, kit and blueprints bound together - never a route, never a rule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Flask, Response, g, request
from redis import Redis
from werkzeug.middleware.proxy_fix import ProxyFix

from app import VERSION, api, cli, models
from app.extensions import celery, cors, db, jwt, limiter, migrate
from app.kit import security_headers
from app.kit.logging import bind_context, clear_context, configure_logging, request_id_from
from app.kit.problems import register_problem_handlers
from app.kit.rate_limits import RateClass
from app.kit.tenancy import bind_tenancy, leave_organization
from config import Config


def build_app(config: Config) -> Flask:
    """Return the application for these settings."""
    configure_logging(config.log_level)
    app = Flask("app", static_folder="static", static_url_path="/static")
    app.config.update(_flask_settings(config))
    app.extensions["devguard"] = config
    _bind_extensions(app, config)
    _bind_requests(app)
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
            "pool_pre_ping": True,
            "pool_timeout": 10,
            "connect_args": {"connect_timeout": 5, "application_name": "devguard"},
        },
        "RATELIMIT_ENABLED": config.ratelimit_enabled,
        "RATELIMIT_STORAGE_URI": _limiter_storage(config.redis_url),
        "RATELIMIT_STORAGE_OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
        "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True,
        "RATELIMIT_HEADERS_ENABLED": True,
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


def _bind_requests(app: Flask) -> None:
    @app.before_request
    def name_request() -> None:
        clear_context()
        leave_organization()
        g.request_id = request_id_from(request.headers.get("X-Request-Id"))
        bind_context(request_id=g.request_id)

    @app.after_request
    def finish_answer(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        return security_headers.harden(response, is_authenticated="actor" in g)

    @app.teardown_request
    def forget_request(_error: BaseException | None) -> None:
        clear_context()
        leave_organization()


def _limiter_storage(redis_url: str) -> str:
    return redis_url.replace("unix://", "redis+unix://", 1)
