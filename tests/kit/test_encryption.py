from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from cryptography.fernet import Fernet, MultiFernet
from flask import Flask
from sqlalchemy import make_url, text

from app.extensions import db
from app.kit import encryption
from app.kit.encryption import key_cache
from app.kit.encryption.columns import COLUMNS
from app.kit.encryption.key_cache import OPEN_KEYS
from app.kit.ids import new_id
from app.kit.tenancy import organization_scope
from config import KeyMaterial
from tests.factories.tenants import as_platform

TABLE = "vault.secrets"
# A table of its own beside the product's: behind the same wall, unknown to the tests that walk `public`.
MAKE_VAULT = """
CREATE SCHEMA vault;
CREATE TABLE vault.secrets (
    id uuid PRIMARY KEY, organization_id uuid NOT NULL, secret text, other_secret text
);
CREATE TABLE vault.people_secrets (id uuid PRIMARY KEY, secret text);
CALL dg_protect_table('vault.secrets');
GRANT USAGE ON SCHEMA vault TO dg_app, dg_system;
GRANT SELECT, INSERT, UPDATE ON vault.people_secrets TO dg_app, dg_system;
"""


@dataclass
class Vault:
    """Rows with secrets, and the whole database as its superuser sees it."""

    app: Flask
    superuser: psycopg.Connection[Any]
    organizations: list[UUID] = field(default_factory=list)

    def organization(self) -> UUID:
        self.organizations.append(new_id())
        return self.organizations[-1]

    def give(self, **materials: KeyMaterial | None) -> None:
        """Go on as a process that was started with other keys."""
        config = self.app.extensions["devguard"]
        self.app.extensions["devguard"] = replace(config, **materials)
        OPEN_KEYS.clear()

    @contextmanager
    def inside(self, organization_id: UUID) -> Iterator[None]:
        with self.app.app_context(), organization_scope(organization_id):
            yield
            db.session.commit()

    def store(self, organization_id: UUID, value: str, *, column: str = "secret") -> UUID:
        row_id = new_id()
        with self.inside(organization_id):
            sealed = self.encrypt(organization_id, row_id, value, column=column)
            statement = f"INSERT INTO {TABLE} (id, organization_id, {column}) VALUES (:id, :o, :s)"
            db.session.execute(text(statement), {"id": row_id, "o": organization_id, "s": sealed})
        return row_id

    def encrypt(self, organization_id: UUID, row_id: UUID, value: str, *, column="secret") -> str:
        where = {"organization_id": organization_id, "row_id": row_id}
        return encryption.encrypt(value, table=TABLE, column=column, **where)

    def read(self, organization_id: UUID, row_id: UUID, *, column: str = "secret") -> str:
        with self.inside(organization_id):
            statement = f"SELECT {column} FROM {TABLE} WHERE id = :id"
            sealed = db.session.scalar(text(statement), {"id": row_id})
            where = {"organization_id": organization_id, "row_id": row_id}
            return encryption.decrypt(sealed, table=TABLE, column=column, **where)

    def write_raw(self, row_id: UUID, sealed: str, *, column: str = "secret") -> None:
        self.superuser.execute(f"UPDATE {TABLE} SET {column} = %s WHERE id = %s", (sealed, row_id))

    def raw(self, row_id: UUID, *, column: str = "secret") -> str:
        statement = f"SELECT {column} FROM {TABLE} WHERE id = %s"
        return self.superuser.execute(statement, (row_id,)).fetchone()[0]

    def keys(self, organization_id: UUID) -> list[Any]:
        statement = (
            "SELECT id, kek_id, wrapped_key, retired_at, shredded_at FROM data_keys"
            " WHERE organization_id = %s ORDER BY created_at, id"
        )
        return self.superuser.execute(statement, (organization_id,)).fetchall()

    def kid(self, row_id: UUID) -> UUID:
        return UUID(hex=self.raw(row_id).split(":")[1])


@contextmanager
def vault_superuser(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection, while the vault's tables exist."""
    known = make_url(database_url)
    _, arguments = known.get_dialect()().create_connect_args(known)
    with psycopg.connect(**arguments, autocommit=True) as connection:
        connection.execute(MAKE_VAULT)
        yield connection
        connection.execute("DROP SCHEMA vault CASCADE")


@contextmanager
def opened_vault(app: Flask, superuser: psycopg.Connection[Any]) -> Iterator[Vault]:
    """An application with a key of its own; nothing of it is left afterwards."""
    for column in ("secret", "other_secret"):
        encryption.register_column(TABLE, column)
    encryption.register_column("vault.people_secrets", "secret", organization_column=None)
    vault, config = Vault(app, superuser), app.extensions["devguard"]
    vault.give(encryption_key=KeyMaterial(key=os.urandom(32)), encryption_old_key=None)
    try:
        yield vault
    finally:
        app.extensions["devguard"] = config
        for name in [name for name in COLUMNS if name[0].startswith("vault.")]:
            del COLUMNS[name]
        superuser.execute("TRUNCATE vault.secrets, vault.people_secrets")
        superuser.execute("DELETE FROM outbox WHERE topic = 'kit.reencrypt_column'")
        owners = [*vault.organizations, encryption.PLATFORM_ID]
        superuser.execute("DELETE FROM data_keys WHERE organization_id = ANY(%s)", (owners,))
        OPEN_KEYS.clear()


@pytest.fixture(scope="module")
def superuser(app: Flask, database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with vault_superuser(database_url) as connection:
        yield connection


@pytest.fixture
def vault(app: Flask, superuser: psycopg.Connection[Any]) -> Iterator[Vault]:
    with opened_vault(app, superuser) as vault:
        yield vault


@pytest.fixture
def organization_id(vault: Vault) -> UUID:
    return vault.organization()


class TestEncrypt:
    def test_gives_the_value_back(self, vault, organization_id):
        row_id = vault.store(organization_id, "whsec_ключ 🔑")

        assert vault.read(organization_id, row_id) == "whsec_ключ 🔑"

    def test_makes_one_key_per_organization(self, vault, organization_id):
        rows = [vault.store(organization_id, "x") for _ in range(3)]
        strangers = vault.store(vault.organization(), "x")

        assert {vault.kid(row) for row in rows} == {vault.keys(organization_id)[0][0]}
        assert vault.kid(strangers) != vault.kid(rows[0])

    def test_makes_one_key_when_many_begin_at_once(self, vault, organization_id):
        rows: list[UUID] = []
        threads = [
            threading.Thread(target=lambda: rows.append(vault.store(organization_id, "x")))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(vault.keys(organization_id)) == 1
        assert [vault.read(organization_id, row) for row in rows] == ["x"] * 6

    def test_keeps_a_key_that_was_made_in_a_transaction_that_failed(self, vault, organization_id):
        with vault.app.app_context(), organization_scope(organization_id):
            sealed = vault.encrypt(organization_id, new_id(), "x")
            db.session.rollback()

        assert [key[0].hex for key in vault.keys(organization_id)] == [sealed.split(":")[1]]

    def test_refuses_a_column_that_nobody_registered(self, vault, organization_id):
        with vault.inside(organization_id), pytest.raises(LookupError, match="register_column"):
            vault.encrypt(organization_id, new_id(), "x", column="unknown")

    def test_refuses_to_begin_without_a_key(self, vault, organization_id):
        vault.give(encryption_key=None)

        with pytest.raises(encryption.EncryptionNotConfigured, match="DEVGUARD_ENCRYPTION_KEY"):
            vault.store(organization_id, "x")

    def test_refuses_the_secrets_of_another_organization(self, vault, organization_id):
        strangers = vault.organization()
        row_id = vault.store(strangers, "x")
        where = {"organization_id": strangers, "table": TABLE, "column": "secret", "row_id": row_id}

        # Also while the key is still open in this process.
        for _ in ("open", "closed"):
            with vault.inside(organization_id), pytest.raises(RuntimeError, match="of another"):
                encryption.decrypt(vault.raw(row_id), **where)
            OPEN_KEYS.clear()

    def test_works_for_people_in_and_outside_of_an_organization(self, vault, organization_id):
        where = {
            "organization_id": encryption.PLATFORM_ID,
            "table": "vault.people_secrets",
            "column": "secret",
            "row_id": new_id(),
        }
        with vault.app.app_context():
            sealed = encryption.encrypt("JBSWY3DPEHPK3PXP", **where)
            OPEN_KEYS.clear()
            # As at a login: the organization is not known yet, and must still be free to enter.
            assert encryption.decrypt(sealed, **where) == "JBSWY3DPEHPK3PXP"
            assert not db.session().in_transaction()
        OPEN_KEYS.clear()
        with vault.inside(organization_id):
            assert encryption.decrypt(sealed, **where) == "JBSWY3DPEHPK3PXP"

    def test_does_not_flush_what_the_caller_only_begins(self, vault, organization_id):
        from app.projects.models import Project

        with vault.app.app_context(), organization_scope(organization_id):
            unfinished = Project(id=new_id(), organization_id=organization_id)
            db.session.add(unfinished)
            vault.encrypt(organization_id, new_id(), "x")
            assert unfinished in db.session.new
            db.session.rollback()


class TestDecrypt:
    def test_refuses_a_text_of_another_row(self, vault, organization_id):
        rows = [vault.store(organization_id, value) for value in ("mine", "yours")]
        vault.write_raw(rows[0], vault.raw(rows[1]))

        with pytest.raises(encryption.DecryptionFailed):
            vault.read(organization_id, rows[0])

    def test_refuses_a_text_of_another_column(self, vault, organization_id):
        row_id = vault.store(organization_id, "x")
        vault.write_raw(row_id, vault.raw(row_id), column="other_secret")

        with pytest.raises(encryption.DecryptionFailed):
            vault.read(organization_id, row_id, column="other_secret")

    def test_refuses_a_text_of_another_organization(self, vault, organization_id):
        own, strangers = (
            vault.store(owner, "x") for owner in (organization_id, vault.organization())
        )
        vault.write_raw(own, vault.raw(strangers))

        with pytest.raises(encryption.EncryptionKeyLost, match=str(vault.kid(strangers))):
            vault.read(organization_id, own)

    def test_refuses_it_as_a_platform_task_too(self, vault, organization_id):
        row_id, strangers = vault.store(organization_id, "x"), vault.organization()
        OPEN_KEYS.clear()

        # No wall of the database stands here: dg_system sees the keys of everybody.
        with as_platform(vault.app), pytest.raises(encryption.EncryptionKeyLost):
            encryption.decrypt(
                vault.raw(row_id),
                organization_id=strangers,
                table=TABLE,
                column="secret",
                row_id=row_id,
            )

    def test_refuses_a_text_under_the_kid_of_another_key(self, vault, organization_id):
        own, strangers = (
            vault.store(owner, "x") for owner in (organization_id, vault.organization())
        )
        version, _, *rest = vault.raw(strangers).split(":")
        vault.write_raw(own, ":".join([version, vault.kid(own).hex, *rest]))

        with pytest.raises(encryption.DecryptionFailed):
            vault.read(organization_id, own)

    def test_refuses_a_wrapped_key_of_another_organization(self, vault, organization_id):
        row_id, strangers = vault.store(organization_id, "x"), vault.organization()
        vault.store(strangers, "x")
        vault.superuser.execute(
            "UPDATE data_keys SET wrapped_key = (SELECT wrapped_key FROM data_keys"
            " WHERE organization_id = %s) WHERE organization_id = %s",
            (strangers, organization_id),
        )
        OPEN_KEYS.clear()

        with pytest.raises(encryption.EncryptionKeyLost, match=str(vault.kid(row_id))):
            vault.read(organization_id, row_id)

    def test_refuses_a_changed_text(self, vault, organization_id):
        row_id = vault.store(organization_id, "x")
        sealed = vault.raw(row_id)
        vault.write_raw(row_id, sealed[:-5] + ("A" if sealed[-5] != "A" else "B") + sealed[-4:])

        with pytest.raises(encryption.DecryptionFailed):
            vault.read(organization_id, row_id)

    def test_names_the_lost_key_of_a_lost_row(self, vault, organization_id):
        row_id = vault.store(organization_id, "x")
        vault.superuser.execute("DELETE FROM data_keys WHERE id = %s", (vault.kid(row_id),))
        OPEN_KEYS.clear()

        with pytest.raises(encryption.EncryptionKeyLost) as lost:
            vault.read(organization_id, row_id)

        assert lost.value.kid == vault.kid(row_id)
        assert str(lost.value.kid) in lost.value.detail
        assert lost.value.code == "encryption_key_lost"

    def test_names_both_keys_when_the_key_encryption_key_is_lost(self, vault, organization_id):
        row_id = vault.store(organization_id, "x")
        ((kid, kek_id, *_),) = vault.keys(organization_id)
        vault.give(encryption_key=KeyMaterial(key=os.urandom(32)))

        for deed in (vault.read, vault.store):
            with pytest.raises(encryption.EncryptionKeyLost, match="OLD_KEY") as lost:
                deed(organization_id, row_id if deed == vault.read else "y")
            assert str(kid) in lost.value.detail
            assert kek_id in lost.value.detail


class TestOpenKeys:
    def test_forgets_what_another_process_shredded_within_two_seconds(
        self, vault, organization_id, monkeypatch
    ):
        row_id = vault.store(organization_id, "x")
        clock_s = 1000.0
        monkeypatch.setattr("app.kit.encryption.data_keys.time.monotonic", lambda: clock_s)
        OPEN_KEYS.clear()
        vault.read(organization_id, row_id)
        vault.superuser.execute(
            "UPDATE data_keys SET wrapped_key = NULL, kek_id = NULL, shredded_at = now()"
            " WHERE organization_id = %s",
            (organization_id,),
        )

        assert vault.read(organization_id, row_id) == "x"
        clock_s += key_cache.LIFETIME_S
        with pytest.raises(encryption.EncryptionKeyShredded):
            vault.read(organization_id, row_id)


class TestRights:
    @pytest.mark.parametrize(
        "deed",
        [
            "UPDATE data_keys SET retired_at = now()",
            "DELETE FROM data_keys",
            "INSERT INTO data_keys (id, organization_id) VALUES (gen_random_uuid(), :o)",
            "UPDATE passphrase_salts SET iterations = 700000",
        ],
    )
    def test_let_no_request_change_a_key(self, vault, organization_id, deed):
        with (
            vault.app.app_context(),
            organization_scope(organization_id),
            pytest.raises(Exception, match="permission denied"),
        ):
            db.session.execute(text(deed), {"o": organization_id} if ":o" in deed else {})

    def test_show_a_request_its_own_keys_only(self, vault, organization_id):
        for owner in (organization_id, vault.organization()):
            vault.store(owner, "x")

        with vault.inside(organization_id):
            owners = db.session.scalars(text("SELECT organization_id FROM data_keys")).all()

        assert owners == [organization_id]


class TestPassphrase:
    PASSPHRASE = "correct horse battery staple"

    def test_opens_in_every_process_that_knows_it(self, vault, organization_id):
        vault.give(encryption_key=KeyMaterial(passphrase=self.PASSPHRASE))
        row_id = vault.store(organization_id, "x")
        # Another process: nothing derived, nothing opened; the salt is in the database.
        del vault.app.extensions["devguard_keks"]
        OPEN_KEYS.clear()

        assert vault.read(organization_id, row_id) == "x"

    def test_does_not_open_with_another_one(self, vault, organization_id):
        vault.give(encryption_key=KeyMaterial(passphrase=self.PASSPHRASE))
        row_id = vault.store(organization_id, "x")
        vault.give(encryption_key=KeyMaterial(passphrase=self.PASSPHRASE + "!"))

        with pytest.raises(encryption.EncryptionKeyLost):
            vault.read(organization_id, row_id)

    def test_has_a_salt_of_the_installation_and_600_000_iterations(self, vault):
        salts = vault.superuser.execute("SELECT salt, iterations FROM passphrase_salts").fetchall()

        assert [(len(salt), iterations) for salt, iterations in salts] == [(32, 600_000)]


class TestImportFernet:
    def test_takes_tokens_of_every_given_key(self, vault, organization_id):
        old, new = Fernet.generate_key(), Fernet.generate_key()
        tokens = [
            Fernet(old).encrypt(b"smtp password"),
            MultiFernet([Fernet(new), Fernet(old)]).encrypt(b"smtp password").decode(),
        ]

        for token in tokens:
            where = {"organization_id": organization_id, "table": TABLE, "column": "secret"}
            where["row_id"] = new_id()
            with vault.inside(organization_id):
                sealed = encryption.import_fernet(token, fernet_keys=[new, old.decode()], **where)

                assert sealed.startswith("v1:")
                assert encryption.decrypt(sealed, **where) == "smtp password"

    @pytest.mark.parametrize("token", ["", "gAAAAA", Fernet(Fernet.generate_key()).encrypt(b"x")])
    def test_refuses_what_no_key_opens(self, vault, organization_id, token):
        with vault.inside(organization_id), pytest.raises(encryption.DecryptionFailed):
            encryption.import_fernet(
                token,
                fernet_keys=[Fernet.generate_key()],
                organization_id=organization_id,
                table=TABLE,
                column="secret",
                row_id=new_id(),
            )

    def test_is_never_done_by_decrypt(self, vault, organization_id):
        row_id = vault.store(organization_id, "x")
        vault.write_raw(row_id, Fernet(Fernet.generate_key()).encrypt(b"x").decode())

        with pytest.raises(encryption.DecryptionFailed, match="not an encrypted value"):
            vault.read(organization_id, row_id)


class TestDatabase:
    def test_holds_no_plaintext_and_no_key(self, vault, organization_id, capfd):
        sentinel = f"SENTINEL{secrets.token_hex(8)}"
        kek = os.urandom(32)
        vault.give(encryption_key=KeyMaterial(key=kek))
        row_id = vault.store(organization_id, sentinel)
        with vault.app.app_context():
            encryption.rotate_data_key(organization_id=organization_id)
            db.session.commit()
        data_keys = [*self.data_keys(vault, kek)]
        assert len(data_keys) == 2
        vault.write_raw(row_id, vault.raw(row_id)[:-4] + "AAAA")
        with pytest.raises(encryption.DecryptionFailed) as refusal:
            vault.read(organization_id, row_id)

        said = (
            f"{self.dump(vault)} {refusal.value!r} {refusal.value.__cause__!r} {capfd.readouterr()}"
        )

        for secret in (sentinel, sentinel.encode().hex(), kek.hex(), *(k.hex() for k in data_keys)):
            assert secret.lower() not in said.lower()
        assert vault.raw(row_id) in said

    @staticmethod
    def data_keys(vault, kek: bytes) -> Iterator[bytes]:
        from app.kit.encryption.envelope import KeyEncryptionKey, unwrap

        for organization_id in vault.organizations:
            for kid, _kek_id, wrapped, *_ in vault.keys(organization_id):
                opener = KeyEncryptionKey.of(kek)
                yield unwrap(opener, bytes(wrapped), organization_id=organization_id, kid=kid)

    @staticmethod
    def dump(vault) -> str:
        """Every row of every table as text: bytea as hexadecimal digits."""
        tables = vault.superuser.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            " AND schemaname NOT LIKE '\\_timescaledb%'"
        ).fetchall()
        rows = []
        for (table,) in tables:
            rows += vault.superuser.execute(f"SELECT t::text FROM {table} t").fetchall()
        return "\n".join(row for (row,) in rows)
