"""What strict JSON lets pass by itself, and what our base models refuse of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.kit.payload import (
    MOST_FAULTS,
    Moment,
    Payload,
    View,
    decimal_text,
    faults_of,
    json_faults,
    rfc3339_text,
)
from tests.kit.probe_routes import Thing

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
    lambda parts: (
        st.lists(parts, max_size=5)
        | st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_characters="\x00")), parts, max_size=5
        )
    ),
    max_leaves=30,
)


class Timed(Payload):
    at: Moment


class TimedView(View):
    at: Moment


@pytest.fixture
def send(probe):
    def send_raw(raw: bytes):
        return probe.post("/probe/things", data=raw, content_type="application/json")

    return send_raw


class TestBody:
    def test_is_read(self, send):
        answer = send(b'{"name": " Ada ", "count": 3, "moment": "2026-11-20T11:00:00.5+01:00"}')

        assert answer.status_code == 201
        assert answer.json == {
            "name": "Ada",
            "count": 3,
            "moment": "2026-11-20T10:00:00.500000Z",
        }
        assert answer.headers["Location"] == "/probe/things/1"

    @pytest.mark.parametrize(
        ("raw", "pointer", "code"),
        [
            (b'{"name": "a\\u0000b"}', "/name", "value_error"),
            (b'{"words": ["fine", "a\\u0000b"]}', "/words/1", "nul_character"),
            (b'{"anything": {"a\\u0000b": 1}}', "/anything", "nul_character"),
            (b'{"anything": [{"a~/b": "\\u0000"}]}', "/anything/0/a~0~1b", "nul_character"),
            (b'{"moment": "1700000000"}', "/moment", "value_error"),
            (b'{"moment": 1700000000}', "/moment", "value_error"),
            (b'{"moment": "2026-11-20"}', "/moment", "value_error"),
            (b'{"moment": "2026-11-20T10:00:00"}', "/moment", "value_error"),
            (b'{"moment": "2026-02-30T10:00:00Z"}', "/moment", "datetime_from_date_parsing"),
            (b'{"moment": "9999-12-31T23:59:59-01:00"}', "/moment", "value_error"),
            (b'{"moment": "0001-01-01T00:00:00+01:00"}', "/moment", "value_error"),
            (b'{"share": NaN}', "/share", "finite_number"),
            (b'{"share": -Infinity}', "/share", "finite_number"),
            (b'{"share": 1e999}', "/share", "finite_number"),
            (b'{"anything": [1e999]}', "/anything/0", "finite_number"),
            (b'{"anything": NaN}', "/anything", "finite_number"),
            (b'{"count": 1, "count": 2}', "/count", "repeated_name"),
            (b'{"inner": {"a": 1, "\\u0061": 2}}', "/inner/a", "repeated_name"),
            (b'{"count": "1"}', "/count", "int_type"),
            (b'{"count": 1.0}', "/count", "int_type"),
            (b'{"count": true}', "/count", "int_type"),
            (b'{"is_big": 1}', "/is_big", "bool_type"),
            (b'{"surname": "x"}', "/surname", "extra_forbidden"),
            (b'{"name": ""}', "/name", "string_too_short"),
            (b'{"name": "\xff"}', "", "json_invalid"),
            (b'{"name": "\\ud800"}', "", "json_invalid"),
            (b"\xef\xbb\xbf{}", "", "json_invalid"),
            (b'{"count": ' + b"1" * 5000 + b"}", "", "json_invalid"),
            (b'{"anything": ' + b"1" * 5000 + b"}", "", "json_invalid"),
            (b'{"anything": ' + b"[" * 100_000 + b"}", "", "json_invalid"),
            (b"{}{}", "", "json_invalid"),
            (b"", "", "json_invalid"),
            (b"[]", "", "model_type"),
        ],
    )
    def test_is_refused_by_name(self, send, raw, pointer, code):
        answer = send(raw)

        assert answer.status_code == 422
        assert answer.json["code"] == "invalid_payload"
        assert {"pointer": pointer, "code": code} in [
            {"pointer": fault["pointer"], "code": fault["code"]} for fault in answer.json["errors"]
        ]

    def test_names_every_fault_at_once_and_echoes_no_value(self, send):
        answer = send(b'{"name": 1, "count": "hunter2", "share": "hunter2", "more": "hunter2"}')

        assert {fault["pointer"] for fault in answer.json["errors"]} == {
            "/name",
            "/count",
            "/share",
            "/more",
        }
        assert b"hunter2" not in answer.data

    def test_answers_little_for_a_body_of_faults(self, send):
        answer = send(json.dumps({f"x{number}" * 100: 1 for number in range(5_000)}).encode())

        assert answer.status_code == 422
        assert len(answer.json["errors"]) == MOST_FAULTS
        assert len(answer.data) < 100_000

    @given(st.text(st.characters(codec="utf-8")).filter(lambda text: "\\" not in text))
    def test_may_hold_any_text_but_nul(self, text):
        raw = json.dumps({"words": [text]}).encode()

        assert Thing.model_validate_json(raw).words == [text]
        assert bool(json_faults(raw)) == ("\x00" in text)


class TestJsonFaults:
    @given(JSON_VALUES)
    def test_finds_nothing_in_what_is_right(self, value):
        assert json_faults(json.dumps(value).encode()) == []

    @given(JSON_VALUES, JSON_VALUES)
    def test_finds_a_name_given_twice_wherever_it_is(self, first, second):
        raw = f'[0, {{"outer": {{"a": {json.dumps(first)}, "a": {json.dumps(second)}}}}}]'.encode()

        assert [(fault.pointer, fault.code) for fault in json_faults(raw)] == [
            ("/1/outer/a", "repeated_name")
        ]

    def test_leaves_an_escaped_backslash_alone(self):
        assert json_faults(b'{"a": "\\\\u0000"}') == []


class TestMoment:
    @given(
        st.datetimes(
            datetime(2, 1, 1),
            datetime(9998, 12, 31),
        ),
        st.integers(-23 * 60, 23 * 60),
    )
    def test_is_the_same_moment_in_and_out(self, wall_time, offset_minutes):
        moment = wall_time.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
        text = moment.isoformat()

        read = Timed.model_validate_json(json.dumps({"at": text})).at

        assert read == moment
        assert read.tzinfo is UTC
        assert datetime.fromisoformat(rfc3339_text(read)) == moment
        assert TimedView(at=read).model_dump_json() == f'{{"at":"{rfc3339_text(read)}"}}'

    @pytest.mark.parametrize(
        "text",
        [
            "2026-11-20t10:00:00z",
            "2026-11-20 10:00:00Z",
            "2026-11-20T10:00:00.1Z",
            "2026-11-20T10:00:00.123456789+05:45",
            "2026-11-20T10:00:00-00:00",
        ],
    )
    def test_takes_what_rfc_3339_allows(self, text):
        assert Timed.model_validate_json(json.dumps({"at": text})).at.year == 2026

    def test_is_cut_to_microseconds_not_rounded(self):
        raw = '{"at": "2026-11-20T10:00:00.999999999Z"}'

        assert Timed.model_validate_json(raw).at == datetime(
            2026, 11, 20, 10, 0, 0, 999999, tzinfo=UTC
        )

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "now",
            "2026-11-20T10:00Z",
            "20261120T100000Z",
            "2026-11-20T10:00:00,5Z",
            "2026-11-20T10:00:00.Z",
            "2026-11-20T10:00:00+0100",
            "\u0662\u0660\u0662\u0666-11-20T10:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-06-30T23:59:60Z",
            "2026-11-20T10:00:00+24:00",
            "0000-11-20T10:00:00Z",
            "2026-11-20T10:00:00.1234567890Z",
            "2026-11-20T10:00:00Z\n",
            " 2026-11-20T10:00:00Z",
        ],
    )
    def test_refuses_everything_else(self, text):
        with pytest.raises(ValidationError):
            Timed.model_validate_json(json.dumps({"at": text}))


class TestDecimalText:
    @given(st.decimals(allow_nan=False, allow_infinity=False, places=12))
    def test_is_the_number_without_exponent(self, number):
        text = decimal_text(number)

        assert Decimal(text) == number
        assert "E" not in text
        assert text != "-0"
        assert not (text.endswith("0") and "." in text)


class TestFaultsOf:
    def test_cuts_the_names_that_the_caller_made_up(self):
        with pytest.raises(ValidationError) as caught:
            Thing.model_validate_json(json.dumps({"x" * 100_000: 1}))

        assert len(faults_of(caught.value)[0].pointer) == 300


class TestQuery:
    def test_is_read(self, probe):
        answer = probe.get("/probe/things?limit=5&tag=a&tag=b&since=2026-11-20T10:00:00Z")

        assert answer.json == {"limit": 5, "tag": ["a", "b"], "word": ""}

    @pytest.mark.parametrize(
        ("arguments", "pointer"),
        [
            ("limit=0", "/limit"),
            ("limit=x", "/limit"),
            ("limit=5&limit=6", "/limit"),
            ("limits=5", "/limits"),
            ("word=a%00b", "/word"),
            ("tag=fine&tag=a%00b", "/tag"),
            ("since=1700000000", "/since"),
            # A plus that was not encoded is a space.
            ("since=2026-11-20T10:00:00+01:00", "/since"),
        ],
    )
    def test_is_refused_by_name(self, probe, arguments, pointer):
        answer = probe.get(f"/probe/things?{arguments}")

        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]

    def test_is_refused_where_a_route_has_no_arguments(self, probe):
        answer = probe.post("/probe/notes/unasked?dry_run=true")

        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json["errors"]] == ["/dry_run"]
