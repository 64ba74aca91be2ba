"""The peer of single calls: a bare Flask route that inserts one prepared row and commits."""

from __future__ import annotations

import os
from uuid import uuid4

import psycopg
from flask import Flask, request
from gevent.queue import LifoQueue

app = Flask(__name__)
pool: LifoQueue = LifoQueue()
COLUMNS = (
    "organization_id, project_id, started_at, id, group_id, payload_hash, provider, operation, "
    "outcome, stream, cache_hit, attempt, usage_source, input_tokens, output_tokens, "
    "pricing_status, cost, computed_cost, currency"
)
INSERT = (
    f"INSERT INTO measurements.api_requests ({COLUMNS}) VALUES (%s, %s, %s, %s, 1, 1, %s, 'chat', "
    "'success', false, false, 1, 'provider', %s, %s, 'computed', 0, 0, 'USD')"
)
ORGANIZATION, PROJECT = uuid4(), uuid4()


@app.post("/one")
def insert_one() -> tuple[dict[str, str], int]:
    call = request.get_json()
    connection = (
        pool.get_nowait() if not pool.empty() else psycopg.connect(os.environ["BARE_DATABASE_URL"])
    )
    usage = call["usage"]
    values = (
        ORGANIZATION, PROJECT, call["started_at"], call["id"], call["provider"],
        usage["input_tokens"], usage["output_tokens"],
    )  # fmt: skip
    connection.execute(INSERT, values, prepare=True)
    connection.commit()
    pool.put(connection)
    return {"id": call["id"]}, 201
