import pytest
from sqlalchemy import create_engine, text

from app.kit import patience


@pytest.fixture
def engine(database_url):
    """A pool of one connection, so that the one that is taken is the one that was returned."""
    engine = create_engine(database_url, pool_size=1, max_overflow=0)
    patience.bind_ping(engine)
    yield engine
    engine.dispose()


class TestPingIdleConnections:
    def test_replaces_a_connection_that_died_while_it_idled(self, engine, monkeypatch):
        monkeypatch.setattr(patience, "TRUSTED_IDLE_S", 0.0)
        with engine.connect() as connection:
            dead = connection.scalar(text("SELECT pg_backend_pid()"))
            driver_connection = connection.connection.driver_connection
        driver_connection.close()

        with engine.connect() as connection:
            alive = connection.scalar(text("SELECT pg_backend_pid()"))

        assert alive != dead

    def test_trusts_a_connection_that_was_just_used(self, engine, monkeypatch):
        pings = []
        monkeypatch.setattr(patience, "TRUSTED_IDLE_S", 60.0)
        monkeypatch.setattr(engine.dialect, "do_ping", pings.append)

        for _ in range(3):
            with engine.connect() as connection:
                connection.scalar(text("SELECT 1"))

        assert pings == []
