from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from sqlalchemy import text

from app.extensions import celery, db
from app.kit import encryption
from app.kit.encryption import reencryption, rotation
from app.kit.encryption.columns import COLUMNS, EncryptedColumn
from app.kit.encryption.key_cache import OPEN_KEYS
from app.kit.ids import new_id
from app.kit.jobs.drain import _delivery_of
from app.kit.jobs.tasks import deliver
from config import KeyMaterial
from tests.factories.tenants import as_platform
from tests.kit.test_encryption import TABLE, Vault, opened_vault, vault_superuser

COLUMN = EncryptedColumn(TABLE, "secret")


@pytest.fixture(scope="module")
def superuser(app, database_url):
    with vault_superuser(database_url) as connection:
        yield connection


@pytest.fixture
def vault(app, superuser):
    with opened_vault(app, superuser) as vault:
        yield vault


@pytest.fixture
def organization_id(vault) -> UUID:
    return vault.organization()


def new_key() -> KeyMaterial:
    return KeyMaterial(key=os.urandom(32))


def rotate_data_key(vault: Vault, organization_id: UUID) -> UUID:
    with vault.app.app_context():
        kid = encryption.rotate_data_key(organization_id=organization_id)
        db.session.commit()
    return kid


def rotate_kek(vault: Vault) -> rotation.KekRotation:
    with vault.app.app_context():
        return encryption.rotate_kek()


def reencrypt(vault: Vault, organization_id: UUID) -> reencryption.Batch:
    with as_platform(vault.app):
        return reencryption.reencrypt_batch(
            COLUMN, organization_id=organization_id, after=reencryption.FIRST_ID
        )


def messages(vault: Vault, organization_id: UUID):
    statement = (
        "SELECT id, not_before - now(), payload->>'column' FROM outbox"
        " WHERE topic = 'kit.reencrypt_column' AND payload->>'organization_id' = %s ORDER BY 2, 3"
    )
    return vault.superuser.execute(statement, (str(organization_id),)).fetchall()


class TestRotateKek:
    def test_rewraps_and_touches_no_field(self, vault, organization_id):
        row_id = vault.store(organization_id, "x")
        sealed, old = vault.raw(row_id), vault.app.extensions["devguard"].encryption_key
        vault.give(encryption_key=new_key(), encryption_old_key=old)
        before = vault.keys(organization_id)

        done = rotate_kek(vault)

        assert done.rewrapped == 1
        ((kid, kek_id, wrapped, *_),) = vault.keys(organization_id)
        assert (kid, kek_id) == (before[0][0], done.kek_id)
        assert wrapped != before[0][2]
        assert vault.raw(row_id) == sealed
        # The old key is needed no longer.
        vault.give(encryption_old_key=None)
        assert vault.read(organization_id, row_id) == "x"

    def test_takes_over_from_a_passphrase(self, vault, organization_id):
        passphrase = KeyMaterial(passphrase="correct horse battery staple")
        vault.give(encryption_key=passphrase)
        row_id = vault.store(organization_id, "x")
        vault.give(encryption_key=new_key(), encryption_old_key=passphrase)

        rotate_kek(vault)

        vault.give(encryption_old_key=None)
        assert vault.read(organization_id, row_id) == "x"

    def test_is_no_event_for_processes_that_know_both_keys(self, vault, organization_id):
        old, new = vault.app.extensions["devguard"].encryption_key, new_key()
        written = vault.store(organization_id, "x")
        # Step 1 and step 2 of .env.example are both running.
        vault.give(encryption_key=new, encryption_old_key=old)
        by_new = vault.store(vault.organization(), "y")
        vault.give(encryption_key=old, encryption_old_key=new)

        assert vault.read(vault.organizations[-1], by_new) == "y"
        assert vault.read(organization_id, written) == "x"

    def test_names_what_no_given_key_opens_and_leaves_it(self, vault, organization_id):
        row_id = vault.store(organization_id, "x")
        first, kept = vault.app.extensions["devguard"].encryption_key, vault.keys(organization_id)
        vault.give(encryption_key=new_key())

        done = rotate_kek(vault)

        assert vault.kid(row_id) in done.lost
        assert vault.keys(organization_id) == kept
        vault.give(encryption_old_key=first)
        assert vault.kid(row_id) not in rotate_kek(vault).lost
        assert vault.read(organization_id, row_id) == "x"

    def test_goes_through_more_keys_than_one_transaction_takes(self, vault, monkeypatch):
        rows = {owner: vault.store(owner, "x") for owner in (vault.organization() for _ in "12345")}
        monkeypatch.setattr(rotation, "KEYS_PER_TRANSACTION", 2)
        short = rotation._UNDER_ANOTHER_KEK.text.replace("LIMIT 500", "LIMIT 2")
        monkeypatch.setattr(rotation, "_UNDER_ANOTHER_KEK", text(short))
        old = vault.app.extensions["devguard"].encryption_key
        vault.give(encryption_key=new_key(), encryption_old_key=old)

        assert rotate_kek(vault).rewrapped == 5

        vault.give(encryption_old_key=None)
        assert [vault.read(*place) for place in rows.items()] == ["x"] * 5


class TestRotateDataKey:
    def test_makes_a_key_for_new_values_and_keeps_the_old_one(self, vault, organization_id):
        before = vault.store(organization_id, "x")
        kid = rotate_data_key(vault, organization_id)
        after = vault.store(organization_id, "y")

        assert vault.kid(after) == kid != vault.kid(before)
        assert [vault.read(organization_id, row) for row in (before, after)] == ["x", "y"]
        retired = {key[0]: key[3] is not None for key in vault.keys(organization_id)}
        assert retired == {vault.kid(before): True, kid: False}

    def test_makes_the_first_key_where_there_is_none(self, vault, organization_id):
        kid = rotate_data_key(vault, organization_id)

        assert [key[0] for key in vault.keys(organization_id)] == [kid]

    def test_leaves_one_active_key_when_done_by_many_at_once(self, vault, organization_id):
        vault.store(organization_id, "x")
        threads = [
            threading.Thread(target=rotate_data_key, args=(vault, organization_id)) for _ in "1234"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [key[3] is None for key in vault.keys(organization_id)].count(True) == 1

    def test_asks_for_two_passes_over_every_column(self, vault, organization_id):
        rotate_data_key(vault, organization_id)

        asked = [
            (round(pause.total_seconds() / 60), name)
            for _, pause, name in messages(vault, organization_id)
        ]
        assert asked == [(0, "other_secret"), (0, "secret"), (15, "other_secret"), (15, "secret")]
        # Not before every process has seen the new key.
        assert messages(vault, organization_id)[0][1].total_seconds() > 2

    def test_asks_for_the_columns_of_people_for_the_platform(self, vault):
        rotate_data_key(vault, encryption.PLATFORM_ID)

        waiting = messages(vault, encryption.PLATFORM_ID)
        assert [name for _, _, name in waiting] == ["secret", "secret"]


class TestRenewed:
    def test_moves_what_is_written_anyway(self, vault, organization_id):
        row_id = vault.store(organization_id, "x")
        where = {"organization_id": organization_id, "table": TABLE, "column": "secret"}
        with vault.inside(organization_id):
            assert encryption.renewed(vault.raw(row_id), row_id=row_id, **where) is None
        kid = rotate_data_key(vault, organization_id)

        with vault.inside(organization_id):
            fresh = encryption.renewed(vault.raw(row_id), row_id=row_id, **where)

        vault.write_raw(row_id, fresh)
        assert vault.kid(row_id) == kid
        assert vault.read(organization_id, row_id) == "x"


class TestReencryptColumn:
    def test_moves_what_is_stored_and_nothing_of_others(self, vault, organization_id):
        rows = {vault.store(organization_id, f"value {place}"): place for place in range(5)}
        strangers = vault.store(vault.organization(), "x")
        sealed = vault.raw(strangers)
        kid = rotate_data_key(vault, organization_id)

        batch = reencrypt(vault, organization_id)

        assert (batch.moved, batch.unreadable, batch.last_id) == (5, 0, None)
        for row_id, place in rows.items():
            assert vault.kid(row_id) == kid
            assert vault.read(organization_id, row_id) == f"value {place}"
        assert vault.raw(strangers) == sealed
        assert reencrypt(vault, organization_id).moved == 0

    def test_passes_over_what_cannot_be_read(self, vault, organization_id):
        rows = [vault.store(organization_id, "x") for _ in range(3)]
        vault.write_raw(rows[1], "gone")
        kid = rotate_data_key(vault, organization_id)

        batch = reencrypt(vault, organization_id)

        assert (batch.moved, batch.unreadable) == (2, 1)
        assert vault.raw(rows[1]) == "gone"
        assert [vault.kid(row) for row in (rows[0], rows[2])] == [kid, kid]

    def test_empties_no_row_when_the_key_changes_meanwhile(self, vault, organization_id):
        vault.store(organization_id, "x")
        entries = dict(OPEN_KEYS._entries)
        rotate_data_key(vault, organization_id)
        row_id = vault.store(organization_id, "y")
        sealed = vault.raw(row_id)
        # The rows are chosen by a key that is old already; then this process hears of the new one.
        OPEN_KEYS._entries.update(entries)
        rows_of_older_keys = reencryption._rows_of_older_keys

        def hearing_of_it(*arguments, **options):
            rows = rows_of_older_keys(*arguments, **options)
            OPEN_KEYS.clear()
            return rows

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reencryption, "_rows_of_older_keys", hearing_of_it)
            reencrypt(vault, organization_id)

        assert vault.raw(row_id) == sealed
        assert vault.read(organization_id, row_id) == "y"

    def test_ends_quietly_for_a_shredded_organization(self, vault, organization_id):
        vault.store(organization_id, "x")
        rotate_data_key(vault, organization_id)
        with vault.app.app_context():
            encryption.shred_organization(organization_id=organization_id)
        vault.superuser.execute(
            "UPDATE outbox SET not_before = now() WHERE topic = 'kit.reencrypt_column'"
        )

        assert self.run_due(vault) == 4
        assert messages(vault, organization_id) == []

    def test_waits_for_nobody_who_writes_a_row(self, vault, organization_id):
        rows = [vault.store(organization_id, "x") for _ in range(2)]
        kid = rotate_data_key(vault, organization_id)

        with vault.superuser.transaction():
            vault.superuser.execute(f"SELECT FROM {TABLE} WHERE id = %s FOR UPDATE", (rows[0],))
            assert reencrypt(vault, organization_id).moved == 1

        assert vault.kid(rows[0]) != kid
        assert reencrypt(vault, organization_id).moved == 1

    def test_runs_as_a_job_batch_after_batch(self, vault, organization_id, monkeypatch):
        monkeypatch.setattr(reencryption, "BATCH_ROWS", 2)
        rows = [vault.store(organization_id, "x") for _ in range(5)]
        kid = rotate_data_key(vault, organization_id)
        vault.superuser.execute(
            "UPDATE outbox SET not_before = now() WHERE topic = 'kit.reencrypt_column'"
            " AND not_before < now() + interval '1 minute'"
        )

        runs = self.run_due(vault)

        # Two, two and one row of `secret`; nothing in `other_secret`.
        assert runs == 4
        assert {vault.kid(row) for row in rows} == {kid}

    @staticmethod
    def run_due(vault: Vault) -> int:
        runs = 0
        with vault.app.app_context():
            while True:
                with db.engine.begin() as connection:
                    connection.execute(text("SET LOCAL ROLE dg_system"))
                    row = connection.execute(
                        text(
                            "SELECT * FROM outbox WHERE topic = 'kit.reencrypt_column'"
                            " AND not_before <= now() LIMIT 1"
                        )
                    ).one_or_none()
                if row is None:
                    return runs
                deliver(celery.tasks[row.topic], _delivery_of(row))
                runs += 1


class TestShredOrganization:
    def test_makes_its_values_unreadable_for_good(self, vault, organization_id):
        row_id, strangers = vault.store(organization_id, "x"), vault.organization()
        strangers_row = vault.store(strangers, "y")
        rotate_data_key(vault, organization_id)

        with vault.app.app_context():
            assert encryption.shred_organization(organization_id=organization_id) == 2

        with pytest.raises(encryption.EncryptionKeyShredded, match="for good") as shredded:
            vault.read(organization_id, row_id)
        assert shredded.value.kid == vault.kid(row_id)
        assert all(key[2] is None and key[4] for key in vault.keys(organization_id))
        assert vault.read(strangers, strangers_row) == "y"

    def test_lets_it_write_nothing_new(self, vault, organization_id):
        vault.store(organization_id, "x")
        with vault.app.app_context():
            encryption.shred_organization(organization_id=organization_id)

        for deed in (lambda: vault.store(organization_id, "y"), lambda: self.rotate(vault)):
            with pytest.raises(encryption.EncryptionKeyShredded):
                deed()

    @staticmethod
    def rotate(vault: Vault) -> None:
        rotate_data_key(vault, vault.organizations[0])

    def test_holds_for_one_that_had_no_secret_yet(self, vault, organization_id):
        with vault.app.app_context():
            assert encryption.shred_organization(organization_id=organization_id) == 0
            assert encryption.shred_organization(organization_id=organization_id) == 0

        with pytest.raises(encryption.EncryptionKeyShredded):
            vault.store(organization_id, "x")

    def test_spares_the_platform(self, vault):
        with vault.app.app_context(), pytest.raises(ValueError, match="platform"):
            encryption.shred_organization(organization_id=encryption.PLATFORM_ID)

    def test_survives_a_rotation_of_the_key_encryption_key(self, vault, organization_id):
        vault.store(organization_id, "x")
        with vault.app.app_context():
            encryption.shred_organization(organization_id=organization_id)
        old = vault.app.extensions["devguard"].encryption_key
        vault.give(encryption_key=new_key(), encryption_old_key=old)

        assert rotate_kek(vault).rewrapped == 0


@dataclass
class Traffic:
    """People who write and read secrets while the keys change."""

    vault: Vault
    organization_id: UUID
    values: dict[UUID, str] = field(default_factory=dict)
    faults: list[Exception] = field(default_factory=list)
    rounds: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, seed: int) -> None:
        chance, own = random.Random(seed), []
        try:
            while not self.stopped.is_set():
                value = f"{seed}-{chance.random()}"
                own.append(self.vault.store(self.organization_id, value))
                self.values[own[-1]] = value
                self._overwrite(chance.choice(own), f"again-{value}")
                row_id = chance.choice(own)
                read = self.vault.read(self.organization_id, row_id)
                assert read == self.values[row_id]
                self.rounds += 1
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.faults.append(error)

    def _overwrite(self, row_id: UUID, value: str) -> None:
        with self.vault.inside(self.organization_id):
            sealed = self.vault.encrypt(self.organization_id, row_id, value)
            statement = text(f"UPDATE {TABLE} SET secret = :s WHERE id = :id")
            db.session.execute(statement, {"s": sealed, "id": row_id})
        self.values[row_id] = value


class TestRotationOnLiveData:
    def test_of_both_keys_loses_nothing(self, vault, organization_id):
        traffic = Traffic(vault, organization_id)
        threads = [threading.Thread(target=traffic.run, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.25)
            rotate_data_key(vault, organization_id)
            reencrypt(vault, organization_id)
            old = vault.app.extensions["devguard"].encryption_key
            vault.give(encryption_key=new_key(), encryption_old_key=old)
            rotate_kek(vault)
        # Now nobody writes under an older key.
        time.sleep(0.2)
        traffic.stopped.set()
        for thread in threads:
            thread.join()
        reencrypt(vault, organization_id)
        vault.give(encryption_old_key=None)

        assert traffic.faults == []
        assert traffic.rounds > 20
        assert len(traffic.values) == traffic.rounds
        read = {row_id: vault.read(organization_id, row_id) for row_id in traffic.values}
        assert read == traffic.values
        newest = vault.keys(organization_id)[-1][0]
        assert {vault.kid(row_id) for row_id in traffic.values} == {newest}

    def test_keeps_what_a_process_writes_that_has_not_heard_of_it(self, vault, organization_id):
        vault.store(organization_id, "x")
        entries = dict(OPEN_KEYS._entries)
        kid = rotate_data_key(vault, organization_id)
        OPEN_KEYS._entries.update(entries)
        late = vault.store(organization_id, "late")

        assert vault.kid(late) != kid
        OPEN_KEYS.clear()
        assert vault.read(organization_id, late) == "late"
        reencrypt(vault, organization_id)
        assert vault.kid(late) == kid


class TestKeysCommand:
    @pytest.fixture
    def flask(self, vault):
        def run(*words: str, code: int = 0) -> str:
            done = vault.app.test_cli_runner().invoke(args=["keys", *words])
            assert done.exit_code == code, done.output
            return done.output

        return run

    def test_rotates_the_key_encryption_key(self, vault, organization_id, flask):
        vault.store(organization_id, "x")
        ((kid, kek_id, *_),) = vault.keys(organization_id)
        old = vault.app.extensions["devguard"].encryption_key
        vault.give(encryption_key=new_key())

        assert str(kid) in flask("rotate-kek", code=1)
        assert f"{kek_id}  lost " in flask("status")
        vault.give(encryption_old_key=old)
        assert f"{kek_id}  old " in flask("status")
        flask_said = flask("rotate-kek") if self.only_ours(vault) else flask("rotate-kek", code=1)
        assert flask_said.startswith("1 data keys are now wrapped by ")
        assert kek_id not in flask("status")

    @staticmethod
    def only_ours(vault) -> bool:
        owners = vault.superuser.execute("SELECT organization_id FROM data_keys").fetchall()
        return {owner for (owner,) in owners} <= set(vault.organizations)

    def test_rotates_a_data_key_and_shows_how_far_it_is(self, vault, organization_id, flask):
        row_id = vault.store(organization_id, "x")
        first = vault.kid(row_id)

        said = flask("rotate-data-key", "--organization", str(organization_id))

        second = vault.keys(organization_id)[-1][0]
        assert said.startswith(f"data key {second} encrypts from now on")
        assert len(messages(vault, organization_id)) == 4
        old_line, new_line = flask("status", "--organization", str(organization_id)).splitlines()
        assert old_line.startswith(f"{first}  retired ")
        assert old_line.endswith(" 1 values")
        assert new_line.startswith(f"{second}  active ")
        assert new_line.endswith(" 0 values")

    def test_says_what_is_missing(self, vault, organization_id, flask):
        vault.give(encryption_key=None)

        for words in (["rotate-kek"], ["status"]):
            assert "DEVGUARD_ENCRYPTION_KEY" in flask(*words, code=1)
        said = flask("rotate-data-key", "--organization", str(organization_id), code=1)
        assert "DEVGUARD_ENCRYPTION_KEY" in said
        assert messages(vault, organization_id) == []

    def test_refuses_to_rotate_what_was_shredded(self, vault, organization_id, flask):
        with vault.app.app_context():
            encryption.shred_organization(organization_id=organization_id)

        said = flask("rotate-data-key", "--organization", str(organization_id), code=1)

        assert "shredded" in said


def test_every_registered_column_is_one_that_exists(vault):
    for column in COLUMNS.values():
        names = [column.id_column, column.column, *filter(None, [column.organization_column])]
        vault.superuser.execute(f"SELECT {', '.join(names)} FROM {column.table} LIMIT 0")


def test_ids_are_made_before_the_insert(vault, organization_id):
    row_id = new_id()
    with vault.inside(organization_id):
        assert vault.encrypt(organization_id, row_id, "x")
