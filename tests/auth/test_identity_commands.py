"""`flask users` and `flask organizations`."""

import pytest

from tests.factories import people
from tests.factories.factor import Factor


@pytest.fixture
def flask_command(app):
    def run(*arguments, typed=""):
        return app.test_cli_runner().invoke(args=arguments, input=typed)

    return run


class TestCreateUser:
    def test_makes_an_owner_who_can_sign_in(self, app, flask_command, as_system):
        email = people.new_email("Eve")

        done = flask_command(
            "users", "create", "--email", email.upper(), "--name", "Eve",
            "--organization-name", "Eve's", typed="correct horse\ncorrect horse\n",
        )  # fmt: skip

        assert done.exit_code == 0, done.output
        eve = people.sign_in(app, email=email, password="correct horse")
        assert eve.get("/api/v1/auth/me").json["role"] == "owner"
        read = "SELECT event, actor_kind FROM audit_logs WHERE organization_id = :id ORDER BY id"
        assert ("user.created", "operator") in as_system(read, id=eve.organization_id)

    def test_says_why_it_does_not(self, alice, flask_command):
        done = flask_command(
            "users", "create", "--email", alice.email, "--name", "Eve",
            "--organization-name", "Eve's", "--password", "correct horse",
        )  # fmt: skip

        assert done.exit_code == 1
        assert "somebody has an account" in done.output

    @pytest.mark.parametrize(
        ("email", "password"), [("nothing", "correct horse"), ("eve@example.com", "short")]
    )
    def test_refuses_wrong_options(self, flask_command, email, password):
        done = flask_command(
            "users", "create", "--email", email, "--name", "Eve",
            "--organization-name", "Eve's", "--password", password,
        )  # fmt: skip

        assert done.exit_code == 2


class TestResetPassword:
    def test_ends_every_session_and_sets_the_password(self, app, bob, flask_command, as_system):
        done = flask_command(
            "users", "reset-password", "--email", bob.email, "--password", "another long one"
        )

        assert done.exit_code == 0, done.output
        assert bob.get("/api/v1/auth/me").status_code == 401
        assert people.sign_in(app, email=bob.email, password="another long one")
        read = (
            "SELECT event FROM audit_logs WHERE organization_id = :id AND actor_kind = 'operator'"
        )
        assert as_system(read, id=bob.organization_id) == [("user.password_reset",)]

    def test_says_when_nobody_has_the_address(self, flask_command):
        done = flask_command(
            "users", "reset-password", "--email", "nobody@example.com", "--password", "long enough"
        )

        assert done.exit_code == 1
        assert "nobody has this e-mail address" in done.output


class TestResetMfa:
    def test_makes_the_password_enough_and_ends_every_session(
        self, app, bob, flask_command, as_system
    ):
        person = Factor.enrolled(app, bob).person

        done = flask_command("users", "reset-mfa", "--email", bob.email)

        assert done.exit_code == 0, done.output
        assert person.get("/api/v1/auth/me").status_code == 401
        assert people.sign_in(app, email=bob.email, password=bob.password)
        read = (
            "SELECT event FROM audit_logs WHERE organization_id = :id AND actor_kind = 'operator'"
        )
        assert as_system(read, id=bob.organization_id) == [("mfa.disabled",)]

    def test_says_when_there_is_none(self, bob, flask_command):
        for email in (bob.email, "nobody@example.com"):
            assert flask_command("users", "reset-mfa", "--email", email).exit_code == 1


class TestListOrganizations:
    def test_lists_each_with_its_members(self, alice, bob, stranger, flask_command):
        done = flask_command("organizations", "list")

        lines = {line.split()[0]: line.split()[2:] for line in done.output.splitlines()}
        assert lines[str(alice.organization_id)] == ["2", "Acme"]
        assert lines[str(stranger.organization_id)] == ["1", "Elsewhere"]
