"""The wall of the two tables that have no organization_id: organizations and users."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from app.extensions import db
from app.kit.tenancy import organization_scope


@pytest.fixture
def as_tenant(app):
    """Run SQL as dg_app in the organization of a person, and undo it."""

    def run(person, sql, **values):
        with app.app_context(), organization_scope(person.organization_id):
            result = db.session.execute(text(sql), values)
            answer = result.all() if result.returns_rows else result.rowcount
            db.session.rollback()
            return answer

    return run


class TestUsers:
    def test_are_seen_by_their_own_organization_only(self, as_tenant, alice, bob, stranger):
        seen = as_tenant(alice, "SELECT id FROM users")

        assert {row.id for row in seen} == {alice.user_id, bob.user_id}

    def test_are_changed_by_their_own_organization_only(self, as_tenant, alice, stranger):
        rename = "UPDATE users SET name = 'Renamed' WHERE id = :id"

        assert as_tenant(alice, rename, id=alice.user_id) == 1
        assert as_tenant(alice, rename, id=stranger.user_id) == 0

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT password_hash FROM users",
            "SELECT * FROM users",
            "SELECT count(*) FROM users WHERE password_hash LIKE 'b%'",
            "UPDATE users SET name = password_hash",
            "UPDATE users SET email = 'a@example.com'",
            "UPDATE users SET id = gen_random_uuid()",
            "DELETE FROM users",
        ],
    )
    def test_show_no_hash_and_keep_address_and_id(self, as_tenant, alice, sql):
        with pytest.raises(ProgrammingError, match="permission denied"):
            as_tenant(alice, sql)

    def test_have_one_address_each_in_lower_case(self, as_tenant, alice):
        insert = (
            "INSERT INTO users (id, email, name, epoch, created_at, updated_at)"
            " VALUES (gen_random_uuid(), :email, 'Twin', 0, now(), now())"
        )

        for email, rule in ((alice.email, "uq_users_email"), ("A@b.c", "email_is_normalised")):
            with pytest.raises(DBAPIError, match=rule):
                as_tenant(alice, insert, email=email)


class TestOrganizations:
    def test_are_seen_by_their_own_members_only(self, as_tenant, alice, stranger):
        seen = as_tenant(alice, "SELECT id FROM organizations")

        assert [row.id for row in seen] == [alice.organization_id]

    def test_are_changed_by_their_own_members_only(self, as_tenant, alice, stranger):
        rename = "UPDATE organizations SET name = 'Renamed' WHERE id = :id"

        assert as_tenant(alice, rename, id=alice.organization_id) == 1
        assert as_tenant(alice, rename, id=stranger.organization_id) == 0

    def test_are_not_founded_under_another_id(self, as_tenant, alice):
        with pytest.raises(ProgrammingError, match="row-level security"):
            as_tenant(
                alice, "INSERT INTO organizations VALUES (gen_random_uuid(), 'Another', now())"
            )

    def test_are_deleted_by_nobody(self, as_tenant, alice):
        with pytest.raises(ProgrammingError, match="permission denied"):
            as_tenant(alice, "DELETE FROM organizations")
