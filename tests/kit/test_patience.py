from sqlalchemy import text

from app.extensions import db
from app.kit import patience


class TestPingIdleConnections:
    def test_replaces_a_connection_that_died_while_it_idled(self, app, monkeypatch):
        monkeypatch.setattr(patience, "TRUSTED_IDLE_S", 0.0)
        with app.app_context():
            with db.engine.connect() as connection:
                dead = connection.scalar(text("SELECT pg_backend_pid()"))
                driver_connection = connection.connection.driver_connection
            driver_connection.close()

            with db.engine.connect() as connection:
                alive = connection.scalar(text("SELECT pg_backend_pid()"))

        assert alive != dead

    def test_trusts_a_connection_that_was_just_used(self, app, monkeypatch):
        pings = []
        with app.app_context():
            monkeypatch.setattr(db.engine.dialect, "do_ping", pings.append)
            for _ in range(3):
                with db.engine.connect() as connection:
                    connection.scalar(text("SELECT 1"))

        assert len(pings) <= 1
