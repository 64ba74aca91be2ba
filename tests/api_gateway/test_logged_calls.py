"""One logged call as one row: its identity, its hash, and the two texts in which it travels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api_gateway.card_costs import compile_card
from app.api_gateway.logged_calls import (
    COLUMNS,
    MAXIMUM_TOKENS,
    TOKEN_COLUMNS,
    AcceptedTimes,
    CallReader,
    LoggedCall,
    RefusedCall,
    microseconds,
    moment_of,
)
from app.api_gateway.pricing import PriceNote, PricingReason, Resolution
from app.api_gateway.rate_cards import Rate, rate_card

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
TIMES = AcceptedTimes.around(NOW, retention=timedelta(days=90), ahead=timedelta(minutes=10))


class Book:
    """A price book that knows one answer."""

    def __init__(self, resolution: Resolution) -> None:
        self.resolution = resolution

    def resolve(self, *_asked: object) -> Resolution:
        return self.resolution


def reader(resolution: Resolution | None = None) -> CallReader:
    unknown = Resolution(provider="p", model="m", reason=PricingReason.unknown_model)
    return CallReader(book=Book(resolution or unknown), times=TIMES)  # type: ignore[arg-type]


def read(**fields: object) -> LoggedCall:
    item = {"id": "x", "started_at": "2026-11-20T10:00:00Z", "provider": "p", **fields}
    return reader().read(0, item)


def row(call: LoggedCall) -> dict[str, str | None]:
    return dict(zip(COLUMNS, call.values(7), strict=True))


def unescaped(line: str) -> list[str | None]:
    """Return the columns as PostgreSQL reads a line of COPY text with NULL ''."""
    assert line.endswith("\n")
    assert line.count("\n") == 1
    fields = line[:-1].split("\t")
    return [field.replace("\\\\", "\\") or None for field in fields]


# A label of the wire form: one line, no control characters, backslashes and quotes welcome.
labels = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=30),
    st.sampled_from(["\\N", "\\.", "\\", "\\\\", "\\t", "\\n", "'", '"', "{}", "NULL", "🚀", "é"]),
)


class TestRead:
    @settings(max_examples=100, deadline=None)
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(
                    ("source", "request_model", "error_type", "operation", "operation_id"), labels
                ),
                "attribution": st.fixed_dictionaries(
                    {}, optional={"team": labels, "environment": labels, "user_id": labels}
                ),
                "tags": st.dictionaries(labels, labels, max_size=4),
                "pricing_context": st.dictionaries(labels, labels, max_size=2),
            },
        )
    )
    def test_gives_the_same_row_as_copy_text_and_as_parameters(self, fields):
        call = read(**fields)

        assert unescaped(call.line(7)) == call.values(7)
        assert len(call.values(7)) == len(COLUMNS)
        for name in ("source", "request_model", "error_type", "operation_id"):
            assert row(call)[name] == fields.get(name)
        for name, value in fields.get("attribution", {}).items():
            assert row(call)[name] == value

    def test_takes_null_for_absent(self):
        absent = dict.fromkeys(
            (
                "duration_ms", "source", "operation", "outcome", "stream", "cache_hit", "attempt",
                "usage", "pricing_context", "cost", "attribution", "tags", "error_type",
            )
        )  # fmt: skip

        assert read(**absent).values(7) == read().values(7)

    def test_tells_missing_usage_from_zero(self):
        missing, empty, zero = read(), read(usage={}), read(usage={"input_tokens": 0})

        assert [row(call)["usage_source"] for call in (missing, empty, zero)] == [
            "missing",
            "provider",
            "provider",
        ]
        assert [row(call)["input_tokens"] for call in (missing, empty, zero)] == [None, None, "0"]

    def test_keeps_durations_in_whole_microseconds(self):
        call = read(duration_ms=812.3456, time_to_first_chunk_ms=0.0004, stream=True)

        assert row(call)["duration_us"] == "812346"
        assert row(call)["time_to_first_chunk_us"] == "0"

    def test_bins_the_first_chunk_of_streams_only(self):
        plain, stream = (
            read(time_to_first_chunk_ms=10, stream=is_stream) for is_stream in (False, True)
        )

        assert row(plain)["first_chunk_bin"] is None
        assert row(stream)["first_chunk_bin"] is not None

    def test_writes_what_it_cost(self):
        rates = {"output_tokens": Rate(price=Decimal("0.1"), per=3)}
        card = rate_card("p", "m", rates, source="s", currency="USD")
        resolution = Resolution(
            provider="p", model="m", compiled=compile_card(card), notes=(PriceNote.undated,)
        )
        item = {
            "id": "x",
            "started_at": "2026-11-20T10:00:00Z",
            "provider": "P",
            "usage": {"output_tokens": 1},
        }
        stated = {"amount": Decimal("0.5"), "currency": "EUR"}

        computed = row(reader(resolution).read(0, item))
        reported = row(reader(resolution).read(0, item | {"cost": stated}))

        assert computed["cost"] == computed["computed_cost"] == "33333333333e-12"
        assert computed["stated_cost"] is None
        assert computed["currency"] == "USD"
        assert computed["pricing_notes"] == "undated"
        assert UUID(computed["rate_card_id"]) == card.id
        assert reported["cost"] == reported["stated_cost"] == "500000000000e-12"
        # Dollars are not euros: nothing of ours stands beside it.
        assert reported["computed_cost"] is None
        assert reported["currency"] == "EUR"


class TestIdentity:
    @pytest.mark.parametrize(
        "text",
        [
            "2026-11-20T09:59:59.123456Z",
            "2026-11-20T09:59:59.1234569Z",
            "2026-11-20T09:59:59.123456999Z",
            "2026-11-20t09:59:59.123456z",
            "2026-11-20 09:59:59.123456+00:00",
            "2026-11-20T09:59:59.123456-00:00",
            "2026-11-20T15:44:59.123456789+05:45",
            "2026-11-19T19:59:59.1234560-14:00",
        ],
    )
    def test_is_one_moment_in_every_notation(self, text):
        call, reference = read(started_at=text), read(started_at="2026-11-20T09:59:59.123456Z")

        assert call.started_us == reference.started_us
        assert call.payload_hash == reference.payload_hash
        assert call.started_at_text() == "2026-11-20T09:59:59.123456Z"

    @settings(max_examples=200)
    @given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))
    def test_keeps_every_microsecond(self, moment):
        assert moment_of(microseconds(moment)) == moment

    def test_has_two_ends(self):
        inside = [TIMES.earliest_us, TIMES.latest_us]
        outside = [(TIMES.earliest_us - 1, "too_old"), (TIMES.latest_us + 1, "in_the_future")]

        for moment in inside:
            read(started_at=moment_of(moment).isoformat())
        for moment, code in outside:
            with pytest.raises(RefusedCall) as refusal:
                read(started_at=moment_of(moment).isoformat())
            assert [(f.pointer, f.code) for f in refusal.value.faults] == [("/started_at", code)]


class TestHash:
    def test_is_not_of_the_price(self):
        card = rate_card(
            "p", "m", {"input_tokens": Rate(price=Decimal(1))}, source="s", currency="USD"
        )
        item = {"id": "x", "started_at": "2026-11-20T10:00:00Z", "provider": "p"}

        before = reader().read(0, item)
        after = reader(Resolution(provider="q", model="n", compiled=compile_card(card))).read(
            0, item
        )

        assert row(before)["provider"] != row(after)["provider"]
        assert before.payload_hash == after.payload_hash

    def test_does_not_mix_fields_up(self):
        swapped = [
            {"source": "a", "operation_id": "b"},
            {"source": "b", "operation_id": "a"},
            {"source": "a"},
            {"operation_id": "a"},
            {"attribution": {"team": "a"}},
            {"attribution": {"user_id": "a"}},
            {"usage": {"input_tokens": 1}},
            {"usage": {"output_tokens": 1}},
            {"usage": {"pages": 1}},
            {"usage": {"gb": 1}},
            {"tags": {"a": "b"}},
            {"pricing_context": {"a": "b"}},
            {"duration_ms": 1},
            {"time_to_first_chunk_ms": 1},
        ]

        assert len({read(**fields).payload_hash for fields in swapped}) == len(swapped)


class TestRefusedCall:
    @pytest.mark.parametrize("unit", TOKEN_COLUMNS)
    def test_names_a_count_that_no_sum_could_hold(self, unit):
        usage = dict.fromkeys(TOKEN_COLUMNS, 0) | {unit: MAXIMUM_TOKENS + 1}

        with pytest.raises(RefusedCall) as refusal:
            read(usage=usage)

        assert [fault.pointer for fault in refusal.value.faults] == [f"/usage/{unit}"]

    def test_names_every_fault(self):
        with pytest.raises(RefusedCall) as refusal:
            read(
                started_at="2020-01-01T00:00:00Z",
                usage={"input_tokens": 86, "cache_read_input_tokens": 1920, "output_tokens": 0,
                       "reasoning_output_tokens": 1},
            )  # fmt: skip

        assert [(fault.pointer, fault.detail) for fault in refusal.value.faults[:2]] == [
            ("/usage/cache_read_input_tokens", "1920 of 86 input tokens"),
            ("/usage/reasoning_output_tokens", "1 of 0 output tokens"),
        ]
        assert refusal.value.faults[2].code == "too_old"
