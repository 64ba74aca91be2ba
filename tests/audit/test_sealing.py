"""Sealing and verifying: whoever touches the log past the product is found, superuser or not."""

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from app.audit.seals import SealKeys
from app.audit.service import sealing
from app.audit.service.heads import BrokenHeads, published_seals
from app.audit.service.sealing import seal_waiting_rows
from app.audit.service.verification import verify_log
from app.extensions import celery
from tests.factories import people
from tests.factories.tenants import as_platform

EVENTS = "/api/v1/audit/events"
HEAD = "/api/v1/audit/head"


@pytest.fixture
def keys(config):
    return SealKeys.of(config.audit_keys)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


@pytest.fixture
def seal(app, keys, folder):
    def run(key=keys.current):
        with app.app_context():
            return seal_waiting_rows(key=key, folder=folder, now=datetime.now(UTC))

    return run


@pytest.fixture
def findings(app, alice, keys, folder):
    """What verification finds in Alice's organization."""

    def find(keys=keys):
        with app.app_context():
            published = published_seals(folder=folder, keys=keys)
            found = verify_log(
                keys=keys, published=published, organization_id=alice.organization_id
            )
        return found.findings

    return find


@pytest.fixture
def tamper(database_url):
    """SQL as the superuser, with every trigger off: who owns the server owns its triggers."""

    def run(sql, **values):
        engine = create_engine(database_url)
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            result = connection.execute(text(sql), values)
            rows = result.all() if result.returns_rows else None
        engine.dispose()
        return rows

    return run


@pytest.fixture
def sealed(alice, make_project, seal, as_system):
    """The ids of Alice's rows in the order of their seals; there are at least five."""
    for _ in range(4):
        make_project()
    seal()
    rows = as_system(
        "SELECT audit_log_id FROM audit_seals WHERE organization_id = :id ORDER BY position",
        id=alice.organization_id,
    )
    return [row_id for (row_id,) in rows]


class TestSealWaitingRows:
    def test_gives_every_row_its_place(self, alice, sealed, as_system):
        count = "SELECT count(*) FROM audit_logs WHERE organization_id = :id"
        assert as_system(count, id=alice.organization_id) == [(len(sealed),)]
        shown = alice.get(EVENTS).json["items"]
        assert [item["seal"]["position"] for item in shown] == [*range(len(sealed), 0, -1)]

    def test_goes_on_where_it_ended(self, alice, sealed, make_project, seal, findings):
        make_project()

        assert seal() >= 1
        assert alice.get(HEAD).json["position"] == len(sealed) + 1
        assert findings() == []

    def test_seals_in_batches(self, monkeypatch, alice, make_project, seal, findings):
        monkeypatch.setattr(sealing, "BATCH_ROWS", 2)
        for _ in range(5):
            make_project()

        while seal():
            pass

        assert alice.get(EVENTS).json["items"][0]["seal"] is not None
        assert findings() == []

    def test_leaves_the_work_to_one(self, app, alice, seal, make_project):
        make_project()
        seal()
        make_project()
        with app.app_context(), sealing.system_session() as session:
            assert session.scalar(sealing._TRY_LOCK)
            counts = []
            other = threading.Thread(target=lambda: counts.append(seal()))
            other.start()
            other.join()

        assert counts == [0]

    def test_publishes_signed_heads(self, alice, sealed, keys, folder):
        head = alice.get(HEAD).json

        published = published_seals(folder=folder, keys=keys)
        assert published[alice.organization_id][len(sealed)].hex() == head["seal"]

    def test_signs_what_it_shows(self, alice, sealed, keys, folder):
        head = alice.get(HEAD).json

        lines = (folder / "heads.jsonl").read_text().splitlines()
        (line,) = [each for each in map(json.loads, lines) if each["seal"] == head["seal"]]
        assert (line["signature"], line["key_id"]) == (head["signature"], head["key_id"])
        assert head["statement"].split("|")[1:] == [
            str(alice.organization_id), str(head["position"]), head["seal"],
        ]  # fmt: skip

    def test_runs_as_a_task(self, app, alice, project, config):
        with as_platform(app):
            celery.tasks["audit.seal_events"]()

        assert alice.get(EVENTS).json["items"][0]["seal"] is not None
        assert (config.home / "audit" / "heads.jsonl").stat().st_mode & 0o077 == 0


class TestAuditSeals:
    @pytest.mark.parametrize(
        "sql",
        ["UPDATE audit_seals SET key_id = 'x'", "DELETE FROM audit_seals", "TRUNCATE audit_seals"],
    )
    def test_are_append_only_for_a_superuser(self, database_url, sealed, sql):
        engine = create_engine(database_url)
        with engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
            connection.execute(text(sql))
        engine.dispose()

    @pytest.mark.parametrize(
        "sql",
        [
            "INSERT INTO audit_seals SELECT * FROM audit_seals",
            "DELETE FROM audit_seals",
            "DELETE FROM audit_unsealed",
            "INSERT INTO audit_unsealed VALUES (gen_random_uuid())",
            "SELECT * FROM audit_unsealed",
        ],
    )
    def test_are_written_by_no_request(self, database_url, alice, sql):
        engine = create_engine(database_url)
        with engine.connect() as connection:
            connection.execute(
                text("SELECT set_config('app.organization_id', :id, true)"),
                {"id": str(alice.organization_id)},
            )
            connection.execute(text("SET LOCAL ROLE dg_app"))
            with pytest.raises(DBAPIError, match="permission denied"):
                connection.execute(text(sql))
        engine.dispose()


class TestVerifyLog:
    def test_finds_nothing_where_nothing_is_wrong(self, sealed, findings):
        assert findings() == []

    @pytest.mark.parametrize(
        "change",
        [
            "event = 'session.ended'",
            "actor_label = 'somebody else'",
            "actor_id = NULL",
            "occurred_at = occurred_at - interval '1 microsecond'",
            "ip = '10.0.0.1'",
            "after = NULL",
            "target_label = target_label || ' '",
        ],
    )
    def test_finds_a_changed_row(self, sealed, tamper, findings, change):
        tamper(f"UPDATE audit_logs SET {change} WHERE id = :id", id=sealed[-2])

        (finding,) = findings()
        assert (finding.position, finding.audit_log_id) == (len(sealed) - 1, sealed[-2])
        assert "changed" in finding.fault

    def test_finds_a_deleted_row(self, sealed, tamper, findings):
        tamper("DELETE FROM audit_logs WHERE id = :id", id=sealed[1])

        (finding,) = findings()
        assert (finding.position, finding.audit_log_id) == (2, sealed[1])
        assert "deleted" in finding.fault

    def test_names_the_first_of_several(self, sealed, tamper, findings):
        tamper("DELETE FROM audit_logs WHERE id = :id", id=sealed[3])
        tamper("UPDATE audit_logs SET event = 'x' WHERE id = :id", id=sealed[1])

        assert [finding.position for finding in findings()] == [2]

    def test_finds_a_row_deleted_with_its_seal(self, sealed, tamper, findings):
        tamper("DELETE FROM audit_logs WHERE id = :id", id=sealed[1])
        tamper("DELETE FROM audit_seals WHERE audit_log_id = :id", id=sealed[1])

        (finding,) = findings()
        assert finding.fault == "the seal of position 2 is gone"

    def test_finds_a_gap_that_was_closed(self, alice, sealed, tamper, findings):
        tamper("DELETE FROM audit_logs WHERE id = :id", id=sealed[1])
        tamper("DELETE FROM audit_seals WHERE audit_log_id = :id", id=sealed[1])
        tamper(
            "UPDATE audit_seals SET position = position - 1"
            " WHERE organization_id = :id AND position = 3",
            id=alice.organization_id,
        )

        assert findings()[0].position == 2

    @pytest.mark.parametrize("cut", [1, 3])
    def test_finds_a_tail_that_was_cut_off(self, sealed, tamper, findings, cut):
        tamper("DELETE FROM audit_logs WHERE id = ANY(:ids)", ids=sealed[-cut:])
        tamper("DELETE FROM audit_seals WHERE audit_log_id = ANY(:ids)", ids=sealed[-cut:])

        (finding,) = findings()
        assert finding.position == len(sealed) - cut + 1
        assert "cut off" in finding.fault

    def test_finds_a_tail_that_was_cut_and_grew_again(
        self, sealed, tamper, findings, make_project, seal
    ):
        tamper("DELETE FROM audit_logs WHERE id = :id", id=sealed[-1])
        tamper("DELETE FROM audit_seals WHERE audit_log_id = :id", id=sealed[-1])
        make_project()
        make_project()
        seal()

        (finding,) = findings()
        assert finding.position == len(sealed)
        assert "grew again" in finding.fault

    def test_finds_a_chain_that_is_gone(self, alice, sealed, tamper, findings):
        tamper("DELETE FROM audit_logs WHERE organization_id = :id", id=alice.organization_id)
        tamper("DELETE FROM audit_seals WHERE organization_id = :id", id=alice.organization_id)

        assert findings()[0].fault == "the whole chain is gone"

    def test_finds_a_row_that_was_slipped_in(self, alice, sealed, tamper, findings):
        tamper(
            "INSERT INTO audit_logs SELECT gen_random_uuid(), organization_id, occurred_at, event,"
            " actor_kind, actor_id, actor_label, target_kind, target_id, target_label"
            " FROM audit_logs WHERE id = :id",
            id=sealed[0],
        )

        (finding,) = findings()
        assert finding.fault == "the row has no seal and waits for none"

    def test_finds_a_row_that_was_kept_from_the_sealer(
        self, alice, sealed, tamper, findings, project
    ):
        tamper(
            "DELETE FROM audit_unsealed WHERE audit_log_id IN"
            " (SELECT id FROM audit_logs WHERE organization_id = :id)",
            id=alice.organization_id,
        )

        assert "no seal" in findings()[0].fault

    def test_needs_the_key_of_every_seal(self, sealed, findings):
        other = SealKeys.of(["another key that is long enough"])

        with pytest.raises(BrokenHeads):
            findings(other)

    def test_goes_over_a_change_of_keys(self, config, alice, sealed, findings, seal):
        both = SealKeys.of(["the new key, long enough for this", *config.audit_keys])
        people.make_project(alice)
        seal(both.current)

        assert findings(both) == []

    def test_trusts_no_head_of_others(self, sealed, folder, findings):
        path = folder / "heads.jsonl"
        path.write_text(re.sub(r'"position":\d+', '"position":99', path.read_text()))

        with pytest.raises(BrokenHeads, match="not ours"):
            findings()


class TestVerifyCommand:
    @contextmanager
    def _home(self, app, folder):
        config = app.extensions["devguard"]
        app.extensions["devguard"] = replace(config, home=folder.parent)
        try:
            yield app.test_cli_runner()
        finally:
            app.extensions["devguard"] = config

    def test_says_that_all_is_well(self, app, alice, sealed, folder):
        with self._home(app, folder) as runner:
            said = runner.invoke(
                args=["audit", "verify", "--organization", str(alice.organization_id)]
            )

        assert said.exit_code == 0, said.output
        assert f"{len(sealed)} rows of 1 organizations are what was sealed" in said.output

    def test_names_the_broken_row_and_fails(self, app, alice, sealed, folder, tamper):
        tamper("UPDATE audit_logs SET event = 'x' WHERE id = :id", id=sealed[2])

        with self._home(app, folder) as runner:
            said = runner.invoke(
                args=["audit", "verify", "--organization", str(alice.organization_id)]
            )

        assert said.exit_code == 1
        assert f"position=3 row={sealed[2]}: the row or its seal was changed" in said.output

    def test_looks_at_all_organizations(self, app, sealed, folder):
        person = people.register(app, name="Dora")
        with self._home(app, folder) as runner:
            assert "sealed" in runner.invoke(args=["audit", "seal"]).output
            said = runner.invoke(args=["audit", "verify"])

        assert str(person.organization_id) not in said.output
