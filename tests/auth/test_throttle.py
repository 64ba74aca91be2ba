"""Wrong passwords: how many are taken, and that nobody can lock an owner out."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from app import create_app
from app.auth.known_devices import LIFETIME, account_key, device_id, new_device_token
from app.auth.places import address_of, network_of
from app.auth.tasks import forget_auth_failures
from config import Config
from tests.factories import people
from tests.factories.tenants import as_platform

LOGIN = "/api/v1/auth/login"
REAL = {
    name: Config.__dataclass_fields__[name].default
    for name in (
        "login_failures_per_place",
        "login_failures_per_address",
        "login_failures_everywhere",
    )
}
OWN, ATTACKER = "198.51.100.7", "203.0.113.9"


@pytest.fixture(autouse=True)
def nothing_counted(as_system):
    as_system("DELETE FROM auth_failures")


@pytest.fixture
def strict(app, config):
    """The application with the real figures, and no Redis behind it."""
    strict = create_app(replace(config, **REAL, redis_url="redis://127.0.0.1:1/0"))
    yield strict
    with strict.app_context():
        strict.extensions["sqlalchemy"].engine.dispose()


@pytest.fixture
def login(strict):
    def send(email, password="wrong password", *, ip=ATTACKER, **fields):
        form = {"email": email, "password": password, **fields}
        return strict.test_client().post(LOGIN, json=form, environ_base={"REMOTE_ADDR": ip})

    return send


def statuses(answers):
    return [answer.status_code for answer in answers]


class TestLogin:
    def test_takes_five_failures_of_an_account_from_a_network(self, login, alice):
        answers = [login(alice.email, ip=f"203.0.113.{place}") for place in range(7)]

        assert statuses(answers) == [401] * 5 + [429] * 2
        assert answers[-1].json["code"] == "too_many_attempts"
        assert 800 < int(answers[-1].headers["Retry-After"]) <= 900

    def test_refuses_the_right_password_then_too(self, login, alice):
        for _ in range(5):
            login(alice.email)

        assert login(alice.email, alice.password).status_code == 429

    def test_lets_the_owner_in_whom_an_attacker_attacks_at_full_rate(self, login, alice):
        with ThreadPoolExecutor(8) as pool:
            attacks = pool.map(lambda _: login(alice.email).status_code, range(60))
            owner = [login(alice.email, alice.password, ip=OWN).status_code for _ in range(5)]
            told = list(attacks)

        assert owner == [200] * 5
        assert told.count(401) == 5
        assert told.count(429) == 55

    def test_lets_the_owner_in_on_a_known_device_from_the_network_of_the_attacker(
        self, login, alice
    ):
        token = login(alice.email, alice.password).json["device_token"]
        for _ in range(30):
            login(alice.email)

        assert login(alice.email, alice.password).status_code == 429
        answer = login(alice.email, alice.password, device_token=token)
        assert answer.status_code == 200

    def test_lets_the_owner_in_whom_a_whole_botnet_attacks(self, login, alice):
        answers = [login(alice.email, ip=f"10.0.{place}.1") for place in range(60)]
        assert statuses(answers) == [401] * 60

        # Each network has one guess left; the owner's own is one of them.
        assert login(alice.email, ip="10.0.3.1").status_code == 429
        assert login(alice.email, alice.password, ip=OWN).status_code == 200
        assert statuses(login(alice.email, ip="10.1.1.1") for _ in range(2)) == [401, 429]

    def test_counts_a_stolen_device_by_itself(self, login, alice):
        token = login(alice.email, alice.password).json["device_token"]

        answers = [login(alice.email, ip=f"10.2.{n}.1", device_token=token) for n in range(6)]

        assert statuses(answers) == [401] * 5 + [429]
        assert login(alice.email, alice.password, ip=OWN).status_code == 200

    def test_takes_twenty_failures_of_an_address_whatever_the_account(self, login):
        answers = [login(people.new_email("nobody")) for _ in range(22)]

        assert statuses(answers) == [401] * 20 + [429] * 2
        assert int(answers[-1].headers["Retry-After"]) <= 300

    def test_counts_only_failures(self, login, alice):
        assert statuses(login(alice.email, alice.password) for _ in range(25)) == [200] * 25

    def test_counts_no_more_than_once_when_all_come_at_once(self, login, alice):
        with ThreadPoolExecutor(12) as pool:
            told = statuses(pool.map(lambda _: login(alice.email), range(24)))

        assert told.count(401) == 5
        assert told.count(429) == 19

    def test_answers_alike_for_an_account_that_does_not_exist(self, login, alice):
        known = [login(alice.email, ip=OWN) for _ in range(6)]
        unknown = [login(people.new_email("x"), ip="192.0.2.1") for _ in range(1)]
        nobody = people.new_email("nobody")
        unknown = [login(nobody, ip="192.0.2.1") for _ in range(6)]

        assert statuses(known) == statuses(unknown)
        told = [{**answer.json, "request_id": None} for answer in (known[-1], unknown[-1])]
        assert told[0] == told[1]

    def test_forgets_after_its_time(self, login, alice):
        for _ in range(5):
            login(alice.email)

        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=15, seconds=1)):
            assert login(alice.email, alice.password).status_code == 200

    def test_goes_on_counting_without_redis(self, login, alice):
        # `strict` has no Redis at all: every test of this class stands on that.
        assert statuses(login(alice.email) for _ in range(6))[-1] == 429


class TestChangePassword:
    def test_counts_the_wrong_ones_of_a_session(self, strict, alice):
        caller = replace(alice, client=strict.test_client())
        form = {"current_password": "wrong password", "new_password": "another long one"}

        answers = [caller.post("/api/v1/auth/change-password", json=form) for _ in range(6)]

        assert statuses(answers) == [403] * 5 + [429]


class TestForgetFailures:
    def test_deletes_what_nobody_counts(self, app, login, alice, as_system):
        with time_machine.travel(datetime.now(UTC) - timedelta(hours=25)):
            login(alice.email)
        login(alice.email)

        with as_platform(app):
            forget_auth_failures()

        assert as_system("SELECT count(*) FROM auth_failures") == [(1,)]


class TestDeviceId:
    SECRET = "s" * 32
    NOW = datetime(2026, 11, 20, tzinfo=UTC)

    @pytest.fixture
    def account(self):
        return account_key("alice@example.com", secret=self.SECRET)

    def test_is_the_same_for_half_a_year(self, account):
        token = new_device_token(account, secret=self.SECRET, now=self.NOW)

        def known(later):
            return device_id(token, account, secret=self.SECRET, now=self.NOW + later)

        assert known(timedelta()) == known(LIFETIME - timedelta(seconds=1)) is not None
        assert known(LIFETIME) is None

    def test_is_none_for_another_account_or_secret(self, account):
        token = new_device_token(account, secret=self.SECRET, now=self.NOW)
        bob = account_key("bob@example.com", secret=self.SECRET)

        assert device_id(token, bob, secret=self.SECRET, now=self.NOW) is None
        assert device_id(token, account, secret="t" * 32, now=self.NOW) is None

    @pytest.mark.parametrize("token", [None, "", "dgd_", "dgd_x", "dgd_" + "A" * 67, "dgd_é"])
    def test_is_none_for_nonsense(self, account, token):
        assert device_id(token, account, secret=self.SECRET, now=self.NOW) is None


class TestPlaces:
    @pytest.mark.parametrize(
        ("ip", "address", "network"),
        [
            ("203.0.113.9", "203.0.113.9/32", "203.0.113.0/24"),
            ("::ffff:203.0.113.9", "203.0.113.9/32", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1:2::/64"),
            (None, "nowhere", "nowhere"),
            ("socket", "nowhere", "nowhere"),
        ],
    )
    def test_tell_people_apart(self, ip, address, network):
        assert (address_of(ip), network_of(ip)) == (address, network)
