"""Providers through HTTP: the catalogue, own providers, who may see and make which."""

import secrets
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.api_gateway.catalogue import catalogue_models, catalogue_providers
from app.audit.models import AuditLog
from app.extensions import db
from app.kit.tenancy import organization_scope

API = "/api/v1/api-gateway"


def body(**changes):
    return {
        "name": f"ocr-{secrets.token_hex(4)}",
        "display_name": "Acme OCR",
        "base_url": "https://ocr.example.com/v1",
        "currency": "USD",
        "prices": [
            {
                "model": "*",
                "rates": {
                    "requests": {"price": "0.001"},
                    "pages": {
                        "price": "0.002",
                        "per": 1,
                        "tiers": [{"over": 100, "price": "0.0015"}],
                    },
                },
            }
        ],
        **changes,
    }


def made(owner, **changes):
    answer = owner.post(f"{API}/providers", json=body(**changes))
    assert answer.status_code == 201, answer.text
    return answer.json


def listed(caller, path):
    """Return all items of a list, page by page."""
    items, cursor = [], ""
    while cursor is not None:
        joint = "&" if "?" in path else "?"
        answer = caller.get(f"{API}{path}{joint}limit=20{cursor}")
        assert answer.status_code == 200, answer.text
        items += answer.json["items"]
        following = answer.json["next_cursor"]
        cursor = f"&cursor={following}" if following else None
    return items


class TestListProviders:
    def test_shows_the_whole_catalogue_by_name(self, bob):
        names = [item["name"] for item in listed(bob, "/providers?kind=builtin")]

        assert names == sorted(names)
        assert set(names) >= {provider.id for provider in catalogue_providers()}

    def test_shows_own_providers_among_the_built_in(self, alice):
        name = made(alice)["name"]

        assert name in [item["name"] for item in listed(alice, "/providers")]
        assert [item["name"] for item in listed(alice, "/providers?kind=own")] == [name]

    def test_hides_the_providers_of_others(self, alice, stranger):
        name = made(alice)["name"]

        assert name not in [item["name"] for item in listed(stranger, "/providers")]
        assert listed(stranger, "/providers?kind=own") == []
        assert listed(stranger, f"/providers?name={name}") == []

    def test_finds_by_the_beginning_of_a_name(self, bob):
        names = [item["name"] for item in listed(bob, "/providers?name=OpenA")]

        assert {"openai"} <= set(names)
        assert all(name.startswith("opena") for name in names)

    def test_says_who_sells_a_model_at_what_price(self, bob):
        items = listed(bob, "/providers?model=claude-sonnet-4-5&kind=builtin")
        found = next(item for item in items if item["name"] == "anthropic")
        (model,) = found["models"]
        price = model["prices"][0]

        assert model["name"] == "claude-sonnet-4-5"
        assert price["rates"]["input_tokens"] == {
            "price": "3",
            "per": 1_000_000,
            "tiers": [{"over": 200_000, "price": "6"}],
            "minimum": 0,
        }
        assert price["kind"] == "builtin"
        assert price["source"].startswith("genai-prices@")
        assert any(entry["context"] == {"processing": "batch"} for entry in model["prices"])

    def test_shows_at_most_twenty_matching_models_of_each(self, bob):
        items = listed(bob, "/providers?model=g&name=open")

        assert max(len(item["models"]) for item in items) == 20
        assert all(model["name"].lower().startswith("g") for i in items for model in i["models"])

    def test_shows_no_models_unasked(self, bob):
        items = listed(bob, "/providers?name=openai")

        assert {item["models"] is None for item in items} == {True}
        counts = {item["name"]: item["models_count"] for item in items}
        assert counts["openai"] == sum(m.provider == "openai" for m in catalogue_models())

    @pytest.mark.parametrize(
        "arguments", ["kind=other", "limit=0", "limit=101", "cursor=x", "colour=red", "name="]
    )
    def test_refuses_what_is_no_filter(self, bob, arguments):
        assert bob.get(f"{API}/providers?{arguments}").status_code == 422

    def test_needs_a_credential(self, anonymous):
        assert anonymous.get(f"{API}/providers").status_code == 401


class TestShowProvider:
    def test_shows_a_built_in_one(self, bob):
        (item,) = [i for i in listed(bob, "/providers?name=openai") if i["name"] == "openai"]

        answer = bob.get(f"{API}/providers/{item['id']}")

        assert answer.status_code == 200
        assert answer.json == item
        assert answer.json["display_name"] == "OpenAI"
        assert answer.json["kind"] == "builtin"

    def test_shows_an_own_one(self, alice, bob):
        provider = made(alice)

        assert bob.get(f"{API}/providers/{provider['id']}").json == provider

    def test_hides_the_provider_of_another_organization(self, alice, stranger):
        provider = made(alice)

        assert stranger.get(f"{API}/providers/{provider['id']}").status_code == 404
        assert stranger.get(f"{API}/providers/{provider['id']}/models").status_code == 404

    def test_does_not_know_what_does_not_exist(self, bob):
        assert bob.get(f"{API}/providers/{uuid4()}").status_code == 404


class TestListModels:
    def test_shows_every_model_with_its_prices_page_by_page(self, bob):
        (item,) = [i for i in listed(bob, "/providers?name=anthropic") if i["name"] == "anthropic"]

        models = listed(bob, f"/providers/{item['id']}/models")

        expected = sorted(m.id for m in catalogue_models() if m.provider == "anthropic")
        assert [model["name"] for model in models] == expected
        assert all(model["prices"] for model in models)

    def test_finds_by_the_beginning_of_a_name(self, bob):
        (item,) = [i for i in listed(bob, "/providers?name=openai") if i["name"] == "openai"]

        models = listed(bob, f"/providers/{item['id']}/models?name=GPT-5")

        assert len(models) > 1
        assert all(model["name"].startswith("gpt-5") for model in models)

    def test_shows_what_an_own_provider_asks(self, alice):
        provider = made(alice)

        (model,) = listed(alice, f"/providers/{provider['id']}/models")

        assert model["name"] == "*"
        assert model["prices"][0]["kind"] == "own"
        assert model["prices"][0]["rates"] == {
            "pages": {
                "price": "0.002",
                "per": 1,
                "tiers": [{"over": 100, "price": "0.0015"}],
                "minimum": 0,
            },
            "requests": {"price": "0.001", "per": 1, "tiers": [], "minimum": 0},
        }

    def test_refuses_the_cursor_of_another_provider(self, bob):
        items = [i for i in listed(bob, "/providers?kind=builtin") if i["models_count"] > 2]
        first, second = items[:2]
        page = bob.get(f"{API}/providers/{first['id']}/models?limit=1").json

        answer = bob.get(
            f"{API}/providers/{second['id']}/models?limit=1&cursor={page['next_cursor']}"
        )

        assert answer.status_code == 422


class TestCreateProvider:
    def test_answers_the_provider_and_where_it_is(self, admin):
        wanted = body()

        answer = admin.post(f"{API}/providers", json=wanted)

        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{API}/providers/{answer.json['id']}"
        assert answer.json["name"] == wanted["name"]
        assert answer.json["kind"] == "own"
        assert answer.json["models_count"] == 1
        assert answer.json["currency"] == "USD"

    def test_keeps_prices_of_one_model_in_order_of_their_dates(self, alice):
        rates = {"pages": {"price": "1"}}
        prices = [
            {"model": "Scan", "effective_from": "2026-07-01", "rates": {"pages": {"price": "2"}}},
            {"model": "scan", "effective_to": "2026-07-01", "rates": rates},
            {"model": "demo", "free": True},
        ]

        provider = made(alice, prices=prices)

        models = listed(alice, f"/providers/{provider['id']}/models")
        scan, demo = models
        assert (scan["name"], demo["name"]) == ("Scan", "demo")
        assert demo["prices"][0]["free"] is True
        dates = [(p["effective_from"], p["effective_to"]) for p in scan["prices"]]
        assert dates == [(None, "2026-07-01"), ("2026-07-01", None)]

    def test_needs_no_prices_yet(self, alice):
        assert made(alice, prices=[])["models_count"] == 0

    def test_lets_two_tenants_use_one_name(self, alice, stranger):
        name = f"maps-{secrets.token_hex(4)}"

        assert made(alice, name=name)["id"] != made(stranger, name=name)["id"]

    def test_refuses_a_name_that_is_taken(self, alice):
        name = made(alice)["name"]

        answer = alice.post(f"{API}/providers", json=body(name=name))

        assert (answer.status_code, answer.json["code"]) == (409, "provider_exists")

    @pytest.mark.parametrize("name", ["openai", "azure.ai.openai", "xai", "vertex_ai"])
    def test_refuses_the_name_of_a_built_in_provider(self, alice, name):
        answer = alice.post(f"{API}/providers", json=body(name=name))

        assert (answer.status_code, answer.json["code"]) == (409, "provider_exists")

    def test_is_written_down(self, alice, app):
        provider = made(alice)

        with app.app_context(), organization_scope(alice.organization_id):
            logged = db.session.scalars(
                select(AuditLog).where(AuditLog.target_id == provider["id"])
            ).all()

        assert [(entry.event, entry.target_label) for entry in logged] == [
            ("provider.created", provider["name"])
        ]

    @pytest.mark.parametrize("role", ["bob", "carol"])
    def test_is_for_those_who_run_the_organization(self, role, request):
        caller = request.getfixturevalue(role)

        assert caller.post(f"{API}/providers", json=body()).status_code == 403

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"name": "Acme"}, "/name"),
            ({"name": "a b"}, "/name"),
            ({"name": "x" * 64}, "/name"),
            ({"display_name": ""}, "/display_name"),
            ({"base_url": "ftp://x"}, "/base_url"),
            ({"base_url": "https://user:secret@x"}, "/base_url"),
            ({"currency": "usd"}, "/currency"),
            ({"colour": "red"}, "/colour"),
            ({"prices": [{"model": "*"}]}, "/prices/0"),
            ({"prices": [{"model": "", "free": True}]}, "/prices/0/model"),
            ({"prices": [{"model": "****", "free": True}]}, "/prices/0"),
            ({"prices": [{"free": True, "rates": {"gb": {"price": "1"}}}]}, "/prices/0"),
            ({"prices": [{"rates": {"GB": {"price": "1"}}}]}, "/prices/0/rates/GB/[key]"),
            ({"prices": [{"rates": {"gb": {"price": 0.1}}}]}, "/prices/0/rates/gb/price"),
            ({"prices": [{"rates": {"gb": {"price": "-1"}}}]}, "/prices/0/rates/gb/price"),
            ({"prices": [{"rates": {"gb": {"price": "1e9"}}}]}, "/prices/0/rates/gb/price"),
            ({"prices": [{"rates": {"gb": {"price": "1", "per": 0}}}]}, "/prices/0/rates/gb/per"),
            (
                {
                    "prices": [
                        {
                            "rates": {
                                "gb": {
                                    "price": "1",
                                    "tiers": [{"over": 5, "price": "1"}, {"over": 5, "price": "2"}],
                                }
                            }
                        }
                    ]
                },
                "/prices/0/rates/gb",
            ),
            (
                {
                    "prices": [
                        {
                            "effective_from": "2026-07-01",
                            "effective_to": "2026-07-01",
                            "free": True,
                        }
                    ]
                },
                "/prices/0",
            ),
            (
                {
                    "prices": [
                        {"model": "a", "free": True},
                        {"model": "A", "effective_from": "2027-01-01", "free": True},
                    ]
                },
                "/prices",
            ),
        ],
    )
    def test_refuses_by_name_what_breaks_the_rules(self, alice, changes, pointer):
        answer = alice.post(f"{API}/providers", json=body(**changes))

        assert answer.status_code == 422
        assert pointer in [fault["pointer"] for fault in answer.json["errors"]]


class TestLogCallsOfAnOwnProvider:
    def log(self, caller, **fields):
        """Log one call of just now and return what was answered for it."""
        call = {"id": secrets.token_hex(8), "started_at": datetime.now(UTC).isoformat(), **fields}
        answer = caller.post(f"{API}/requests?results=all", json={"requests": [call]})
        assert answer.status_code == 201, answer.text
        return answer.json["results"][0]

    @pytest.mark.parametrize(
        ("pages", "cost"), [(0, "0.001"), (100, "0.201"), (101, "0.1525"), (3, "0.007")]
    )
    def test_prices_requests_units_and_tiers(self, alice, ingest_key, pages, cost):
        provider = made(alice)["name"]

        logged = self.log(ingest_key, provider=provider, usage={"pages": pages})

        assert logged["pricing_status"] == "computed"
        assert logged["cost"]["amount"] == cost

    def test_knows_a_provider_that_was_made_after_the_last_batch(self, alice, ingest_key):
        name = f"ocr-{secrets.token_hex(4)}"
        before = self.log(ingest_key, provider=name, usage={"pages": 1})

        made(alice, name=name)
        after = self.log(ingest_key, provider=name, usage={"pages": 1})

        assert (before["pricing_status"], before["pricing_reason"]) == (
            "unpriced",
            "unknown_provider",
        )
        assert after["cost"]["amount"] == "0.003"

    def test_prices_a_call_of_a_built_in_provider(self, ingest_key):
        usage = {"input_tokens": 2006, "cache_read_input_tokens": 1920, "output_tokens": 300}

        logged = self.log(ingest_key, provider="openai", request_model="gpt-5", usage=usage)

        assert (logged["pricing_status"], logged["cost"]["amount"]) == ("computed", "0.0033475")
