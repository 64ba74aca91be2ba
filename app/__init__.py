"""DevGuard: what calls to paid APIs cost, which queries are slow, which dependencies are at risk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from config import Config

VERSION = "0.1.0"


def create_app(config: Config | None = None) -> Flask:
    """Return the application for these settings (default: of the environment).

    Imported here and not above: the supervisor and the embedded servers live in this package too, and
    need none of the 60 MB that the application takes.
    """
    from app.factory import build_app  # noqa: PLC0415
    from config import Config  # noqa: PLC0415

    return build_app(config or Config.from_environment())
