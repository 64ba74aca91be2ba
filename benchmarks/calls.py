"""Calls as a service would log them: the same ones for every side of a benchmark."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-5", "claude-sonnet-4-5", "gemini-2.5-pro")
PROVIDERS = {"gpt": "openai", "cla": "anthropic", "gem": "google"}


def call(
    number: int, *, prefix: str, started_at: datetime, chance: random.Random
) -> dict[str, Any]:
    """Return one call: the fields of the documentation's example that an SDK fills."""
    model = chance.choice(MODELS)
    total = chance.randint(200, 6000)
    return {
        "id": f"{prefix}-{number}",
        "started_at": started_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "duration_ms": chance.randint(120, 9000),
        "time_to_first_chunk_ms": chance.randint(40, 900),
        "source": "checkout-svc",
        "provider": PROVIDERS[model[:3]],
        "operation": "chat",
        "request_model": model,
        "response_id": f"chatcmpl-{number:08d}",
        "endpoint": "/v1/chat/completions",
        "status_code": 200,
        "outcome": "error" if chance.random() < 0.01 else "success",
        "stream": True,
        "usage": {
            "input_tokens": total,
            "cache_read_input_tokens": total // 2,
            "output_tokens": chance.randint(10, 900),
        },
        "attribution": {
            "team": chance.choice(("growth", "core")),
            "user_id": f"u{chance.randint(1, 500)}",
            "environment": "prod",
        },
        "tags": {"feature": "search"},
    }


def batch(prefix: str, *, size: int, seed: int, minutes_ago: float = 30) -> bytes:
    """Return the JSON body of one batch whose calls lie within about a minute."""
    chance = random.Random(seed)
    start = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    calls = [
        call(
            number,
            prefix=prefix,
            started_at=start + timedelta(milliseconds=60 * number / size * 1000),
            chance=chance,
        )
        for number in range(size)
    ]
    return json.dumps({"requests": calls}, separators=(",", ":")).encode()
