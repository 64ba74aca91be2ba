"""Reading a body: one call, a batch or lines; the careful way reads what the quick way reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api_gateway.schemas.batches import ReadCalls, read_json, read_ndjson
from app.kit.errors import InvalidPayload

STARTED_AT = "2026-11-20T10:00:00Z"

texts = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20)
counts = st.one_of(
    st.integers(0, 10**15),
    st.floats(0, 1e11).map(lambda value: round(value, 3)),
    st.decimals(0, 10**15 - 1, places=12).map(str),
)
amounts = st.one_of(
    st.decimals(0, 99_999_999, places=12).map(str),
    st.integers(0, 99_999_999),
    st.floats(0, 1e7).map(lambda value: round(value, 6)),
)
items = st.fixed_dictionaries(
    {
        "id": st.text("abcXYZ019._:~-", min_size=1, max_size=30),
        "started_at": st.sampled_from(
            (STARTED_AT, "2026-11-20t10:00:00.123456789+05:45", "2026-11-20 10:00:00.5z")
        ),
        "provider": texts,
    },
    optional={
        "duration_ms": st.one_of(st.none(), st.integers(0, 86_400_000), st.floats(0, 86_400_000)),
        "request_model": st.one_of(st.none(), texts),
        "status_code": st.integers(100, 599),
        "stream": st.booleans(),
        "attempt": st.integers(1, 1000),
        "usage": st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), counts),
        "cost": st.fixed_dictionaries({"amount": amounts}),
        "tags": st.dictionaries(texts, texts, max_size=5),
    },
)


def lines_of(bodies: list[bytes]) -> bytes:
    return b"\n".join(bodies)


def plain(read: ReadCalls) -> list[tuple[int, object]]:
    """Return the items with the type of each value: 5 is not Decimal(5)."""
    return [(index, repr(item)) for index, item in read.items]


class TestReadJson:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(items, min_size=1, max_size=4), st.sampled_from([{}, 5, None, [], {"id": "x"}]))
    def test_reads_an_item_alike_whatever_stands_beside_it(self, good, bad):
        quick = read_json(json.dumps({"requests": good}).encode())
        careful = read_json(json.dumps({"requests": [*good, bad]}).encode())

        assert plain(careful) == plain(quick)
        assert careful.faults.keys() == {len(good)}
        assert quick.faults == {}

    @settings(max_examples=40, deadline=None)
    @given(items)
    def test_reads_a_call_alike_alone_and_in_a_batch(self, item):
        alone = read_json(json.dumps(item).encode())
        batched = read_json(json.dumps({"requests": [item]}).encode())

        assert (alone.is_single, batched.is_single) == (True, False)
        assert plain(alone) == plain(batched)

    @pytest.mark.parametrize(
        "body",
        [
            '{"requests": [%s]}',
            '\n {\t"requests"\r\n: [%s]}',
            '{"\\u0072equests": [%s]}',
        ],
    )
    def test_knows_a_batch_by_its_key(self, body):
        item = json.dumps({"id": "x", "started_at": STARTED_AT, "provider": "openai"})

        read = read_json((body % item).encode())

        assert not read.is_single
        assert len(read.items) == 1

    def test_points_at_each_fault_by_index(self):
        good = {"id": "x", "started_at": STARTED_AT, "provider": "openai"}
        bad = {**good, "usage": {"input_tokens": -1}, "tags": {"a~/b": 5}}

        read = read_json(json.dumps({"requests": [good, bad, good, 7]}).encode())

        assert [index for index, _ in read.items] == [0, 2]
        assert {fault.pointer for fault in read.faults[1]} == {
            "/requests/1/usage/input_tokens",
            "/requests/1/tags/a~0~1b",
        }
        assert [fault.pointer for fault in read.faults[3]] == ["/requests/3"]
        assert read.ids == {1: "x", 3: None}


class TestReadNdjson:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(items, min_size=1, max_size=4))
    def test_reads_lines_as_a_batch(self, good):
        batch = read_json(json.dumps({"requests": good}).encode())
        quick = read_ndjson(lines_of([json.dumps(item).encode() for item in good]))
        careful = read_ndjson(lines_of([*(json.dumps(item).encode() for item in good), b"{"]))

        assert plain(quick) == plain(careful) == plain(batch)
        assert careful.faults.keys() == {len(good)}

    @pytest.mark.parametrize(
        "lines",
        [
            ["ONE,ONE"],
            ["ONE ONE"],
            ["[ONE]"],
            ['{"a":1', '"b":2}'],
            ["ONE]", "[ONE"],
            ["ONE,", "ONE"],
            ["null"],
        ],
    )
    def test_judges_each_line_alone(self, lines):
        one = json.dumps({"id": "x", "started_at": STARTED_AT, "provider": "openai"})

        read = read_ndjson("\n".join(line.replace("ONE", one) for line in lines).encode())

        good = [index for index, line in enumerate(lines) if line == "ONE"]
        assert [index for index, _ in read.items] == good
        assert sorted(read.faults) == [n for n in range(len(lines)) if n not in good]

    def test_does_not_let_one_line_make_up_for_two(self):
        # Joined by commas these three lines would be three good items.
        one = json.dumps({"id": "x", "started_at": STARTED_AT, "provider": "openai"})
        torn = one.replace("openai", "}\n{")

        for halves in (one.replace(", ", "\n", 1), torn):
            read = read_ndjson(f"{one}, {one}\n{halves}".encode())

            assert read.items == []
            assert sorted(read.faults) == [0, 1, 2]

    @pytest.mark.parametrize("body", [b"", b"\n\n", b" \t\r\n"])
    def test_refuses_a_body_without_lines(self, body):
        with pytest.raises(InvalidPayload):
            read_ndjson(body)
