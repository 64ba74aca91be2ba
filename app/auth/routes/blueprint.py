"""The blueprints of the feature; its route modules declare themselves on them."""

from __future__ import annotations

from flask import Blueprint

auth = Blueprint("auth", __name__)
api_keys = Blueprint("api_keys", __name__)
security = Blueprint("security", __name__)
