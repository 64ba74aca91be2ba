"""The blueprint that every route of the feature hangs on."""

from __future__ import annotations

from flask import Blueprint

blueprint = Blueprint("api_gateway", __name__)
