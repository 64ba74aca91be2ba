from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
from redis import Redis

from app.embedded.redis_server import start_redis


class TestStartRedis:
    def test_keeps_data_over_a_restart(self, home: Path) -> None:
        server = start_redis(home)
        with Redis.from_url(server.url()) as client:
            client.set("answer", 42)
        server.stop()

        server = start_redis(home)

        with Redis.from_url(server.url()) as client:
            assert client.get("answer") == b"42"
        server.stop()

    def test_never_forgets_to_make_room_and_opens_no_port(self, home: Path) -> None:
        server = start_redis(home, durable=False)
        with Redis.from_url(server.url()) as client:
            policy = client.config_get("maxmemory-policy")
        ports = psutil.Process(server.process.pid).net_connections(kind="inet")
        server.stop()

        assert policy == {"maxmemory-policy": "noeviction"}
        assert ports == []

    def test_takes_over_from_a_server_that_was_left_behind(self, home: Path) -> None:
        left = start_redis(home)
        os.kill(left.process.pid, signal.SIGSTOP)
        os.kill(left.process.pid, signal.SIGCONT)

        server = start_redis(home)

        assert left.process.wait(5) is not None
        with Redis.from_url(server.url()) as client:
            assert client.ping()
        server.stop()
