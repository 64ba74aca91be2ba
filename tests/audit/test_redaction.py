from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from app.audit.redaction import canonical_text, is_secret


class TestCanonicalText:
    def test_is_the_same_whatever_the_order(self):
        assert canonical_text({"b": 1, "a": [1, 2]}) == canonical_text({"a": [1, 2], "b": 1})
        assert canonical_text({"b": {"y", "x"}}) == '{"b":["x","y"]}'

    def test_is_nothing_for_nothing(self):
        assert canonical_text(None) is None

    def test_replaces_secrets_at_any_depth(self):
        fields = {
            "name": "shop",
            "password": "hunter2",
            "connections": [{"api_key": "k-1", "host": "db", "apiToken": "t-1"}],
        }

        text = canonical_text(fields)

        assert text == (
            '{"connections":[{"apiToken":"[redacted]","api_key":"[redacted]","host":"db"}],'
            '"name":"shop","password":"[redacted]"}'
        )

    def test_tells_a_secret_from_none(self):
        assert canonical_text({"secret": None}) == '{"secret":null}'

    def test_writes_what_json_does_not_know(self):
        fields = {
            "at": datetime(2026, 1, 2, tzinfo=UTC),
            "cost": Decimal("1.50"),
            "id": UUID(int=1),
            "name": "Zürich",
        }

        assert canonical_text(fields) == (
            '{"at":"2026-01-02T00:00:00+00:00","cost":"1.50",'
            '"id":"00000000-0000-0000-0000-000000000001","name":"Zürich"}'
        )


class TestIsSecret:
    @pytest.mark.parametrize(
        "name",
        [
            "password",
            "new_password",
            "PASSWORD",
            "clientSecret",
            "api_key",
            "key",
            "APIKey",
            "token",
            "refresh-token",
            "Authorization",
            "secret_sha256",
            "password_hash",
            "cookie",
            "dsn",
        ],
    )
    def test_knows_what_holds_one(self, name):
        assert is_secret(name)

    @pytest.mark.parametrize(
        "name",
        [
            "name",
            "api_key_id",
            "key_prefix",
            "key_last4",
            "password_changed_at",
            "input_tokens",
            "token_count",
            "monkey",
            "keyboard",
            "",
        ],
    )
    def test_lets_pass_what_only_speaks_of_one(self, name):
        assert not is_secret(name)
