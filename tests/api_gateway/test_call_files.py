"""Files of calls: what each row and line becomes, whatever programs wrote into them."""

import json
from datetime import datetime, timedelta
from io import BytesIO
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api_gateway.call_files import (
    FileForm,
    FileFormat,
    ImportFault,
    assignments,
    check_form,
    constants_of,
    open_calls,
)
from app.api_gateway.call_files.cells import FIELDS, OPEN_GROUPS
from app.api_gateway.call_files.lines import LONGEST_LINE
from app.api_gateway.schemas.requests import ONE_ITEM

HEADER = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
AZURE = (
    HEADER
    + b"2023-11-16 18:17:03.9799609,4808,10\r\n"
    + b"2023-11-16 18:17:04.0319600,3180,8\r\n"
    + b"2023-11-16 19:14:19.9280160,549,173"
)
COLUMNS = {
    "started_at": "TIMESTAMP",
    "usage.input_tokens": "ContextTokens",
    "usage.output_tokens": "GeneratedTokens",
}
CONSTANTS = {"provider": "openai", "request_model": "gpt-4o"}
TWO_COLUMNS = {"started_at": "t", "provider": "p"}
START = "2026-11-16T18:17:03Z"


def csv_form(columns=COLUMNS, constants=CONSTANTS, **fields):
    return FileForm(FileFormat.csv, columns, constants, **fields)


def ndjson_form(**fields):
    return FileForm(FileFormat.ndjson, **fields)


def lines_of(content, form, **arguments):
    return list(open_calls(BytesIO(content), form, **arguments).calls())


def items_of(content, form, **arguments):
    lines = lines_of(content, form, **arguments)
    assert [line.faults for line in lines] == [[]] * len(lines)
    return [json.loads(line.item) for line in lines]


def one_item(cell, name="request_model", **fields):
    """Return the item of a file with one row, in which `name` stands as `cell`."""
    form = csv_form({"started_at": "t", name: "x"}, {"provider": "acme"}, **fields)
    return items_of(f't,x\n{START},"{cell}"\n'.encode(), form)[0]


def faults_of(content, form):
    return [
        (line.line, fault.pointer, fault.code)
        for line in lines_of(content, form)
        for fault in line.faults
    ]


class TestReadCsv:
    def test_makes_an_item_of_each_row(self):
        items = items_of(AZURE, csv_form())

        assert [item.pop("id")[-2:] for item in items] == [":2", ":3", ":4"]
        assert items[0] == {
            "provider": "openai",
            "request_model": "gpt-4o",
            "started_at": "2023-11-16T18:17:03.979960Z",
            "usage": {"input_tokens": 4808, "output_tokens": 10},
        }
        assert items[2]["usage"] == {"input_tokens": 549, "output_tokens": 173}

    def test_makes_items_that_the_wire_accepts(self):
        for line in lines_of(AZURE, csv_form()):
            assert ONE_ITEM.validate_json(line.item)["provider"] == "openai"

    def test_reads_every_field_of_the_wire_form(self):
        schema = ONE_ITEM.json_schema()
        groups = {"cost": "StatedCostItem", "attribution": "AttributionItem"}
        fields = schema["properties"].keys() - groups.keys() - OPEN_GROUPS.keys()
        for group, name in groups.items():
            fields |= {f"{group}.{member}" for member in schema["$defs"][name]["properties"]}

        assert FIELDS.keys() == fields

    def test_puts_fields_of_a_group_together(self):
        form = csv_form(
            {"started_at": "t", "tags.release": "r", "attribution.team": "w", "cost.amount": "c"},
            {"provider": "acme", "attribution.environment": "prod", "tags.a.b": "x"},
        )

        (item,) = items_of(f"t,r,w,c\n{START},1.2,core,0.1\n".encode(), form)

        assert item["tags"] == {"release": "1.2", "a.b": "x"}
        assert item["attribution"] == {"team": "core", "environment": "prod"}
        assert item["cost"] == {"amount": "0.1"}

    def test_leaves_out_what_a_row_leaves_empty(self):
        form = csv_form({**TWO_COLUMNS, "usage.pages": "n"}, {})

        (item,) = items_of(f"t,p,n\n{START},acme, \n".encode(), form)

        assert item.keys() == {"id", "started_at", "provider"}

    def test_takes_the_constant_where_a_row_is_empty(self):
        form = csv_form({**TWO_COLUMNS, "request_model": "m"}, {"request_model": "default"})

        items = items_of(f"t,p,m\n{START},acme,own\n{START},acme,\n".encode(), form)

        assert [item["request_model"] for item in items] == ["own", "default"]

    def test_reads_quoted_cells_over_several_lines(self):
        form = csv_form(TWO_COLUMNS | {"tags.note": "n"}, {})
        content = f't,p,n\n{START},"a, ""b""","one\ntwo"\n{START},acme,-\n'.encode()

        lines = lines_of(content, form)

        assert json.loads(lines[0].item)["provider"] == 'a, "b"'
        assert json.loads(lines[0].item)["tags"] == {"note": "one\ntwo"}
        assert [line.line for line in lines] == [2, 4]

    def test_does_not_count_blank_rows(self):
        content = AZURE.replace(b"10\r\n", b"10\r\n\r\n") + b"\r\n\r\n"

        assert [line.line for line in lines_of(content, csv_form())] == [2, 4, 5]

    def test_reads_a_file_with_a_byte_order_mark(self):
        assert items_of(b"\xef\xbb\xbf" + AZURE, csv_form()) == items_of(AZURE, csv_form())


class TestReadCells:
    @pytest.mark.parametrize(
        ("cell", "moment"),
        [
            ("2023-11-16 18:17:03", "2023-11-16T18:17:03Z"),
            ("2023-11-16T18:17:03.9999999", "2023-11-16T18:17:03.999999Z"),
            ("2023-11-16t18:17:03,5z", "2023-11-16T18:17:03.500000Z"),
            ("2023-11-16 18:17:03.25 UTC", "2023-11-16T18:17:03.250000Z"),
            ("2023-11-16 18:17:03+00", "2023-11-16T18:17:03Z"),
            ("2023-11-16 18:17:03 +0530", "2023-11-16T12:47:03Z"),
            ("2023-11-16 18:17:03-08:00", "2023-11-17T02:17:03Z"),
        ],
    )
    def test_understands_the_times_that_programs_write(self, cell, moment):
        (item,) = items_of(f't,p\n"{cell}",acme\n'.encode(), csv_form(TWO_COLUMNS, {}))

        assert item["started_at"] == moment

    @pytest.mark.parametrize(
        "cell", ["16.11.2023 18:17", "2023-02-29 00:00:00", "1700158623", "2023-11-16", "now"]
    )
    def test_refuses_what_is_no_time(self, cell):
        content = f"t,p\n{cell},acme\n".encode()

        faults = faults_of(content, csv_form(TWO_COLUMNS, {}))

        assert faults == [(2, "/started_at", "invalid_cell")]

    def test_takes_times_without_zone_as_of_the_zone_given(self):
        form = csv_form(TWO_COLUMNS, {}, zone=ZoneInfo("Europe/Berlin"))
        content = b"t,p\n2026-07-01 12:00:00,x\n2026-12-01 12:00:00,x\n2026-07-01 12:00:00Z,x\n"

        times = [item["started_at"][11:13] for item in items_of(content, form)]

        assert times == ["10", "11", "12"]

    def test_means_the_first_of_a_wall_time_that_comes_twice(self):
        form = csv_form(TWO_COLUMNS, {}, zone=ZoneInfo("Europe/Berlin"))

        (item,) = items_of(b"t,p\n2026-10-25 02:30:00,x\n", form)

        assert item["started_at"] == "2026-10-25T00:30:00Z"

    def test_refuses_a_wall_time_that_never_was(self):
        form = csv_form(TWO_COLUMNS, {}, zone=ZoneInfo("Europe/Berlin"))

        (line,) = lines_of(b"t,p\n2026-03-29 02:30:00,x\n", form)

        assert line.faults[0].detail == "never was in Europe/Berlin: the clocks were put forward"

    def test_moves_every_time_by_the_same_amount(self):
        shift = timedelta(days=1000, microseconds=7)

        moved = items_of(AZURE, csv_form(), shift=shift)

        for item, still in zip(moved, items_of(AZURE, csv_form()), strict=True):
            there, here = (datetime.fromisoformat(one["started_at"]) for one in (item, still))
            assert there - here == shift

    @pytest.mark.parametrize("year", ["0001", "9999"])
    def test_refuses_what_would_leave_the_calendar(self, year):
        shift = timedelta(days=-400 if year == "0001" else 400)
        content = f"t,p\n{year}-06-01 00:00:00,x\n".encode()

        (line,) = open_calls(BytesIO(content), csv_form(TWO_COLUMNS, {}), shift=shift).calls()

        assert line.faults[0].pointer == "/started_at"

    def test_keeps_money_and_units_digit_by_digit(self):
        assert one_item("1234567.123456789012", "cost.amount")["cost"] == {
            "amount": "1234567.123456789012"
        }
        assert one_item("0.1", "usage.gb")["usage"] == {"gb": "0.1"}

    @pytest.mark.parametrize(
        ("name", "cell", "value"),
        [
            ("usage.input_tokens", "4808.0", 4808),
            ("usage.input_tokens", "0", 0),
            ("usage.input_tokens", "-5", -5),
            ("usage.input_tokens", "007", 7),
            ("status_code", "200.00", 200),
            ("duration_ms", "12.5", 12.5),
            ("duration_ms", "1e3", 1000),
            ("stream", "True", True),
            ("stream", "n", False),
            ("request_model", "123", "123"),
            ("tags.flag", "true", "true"),
        ],
    )
    def test_reads_a_cell_as_its_field_wants_it(self, name, cell, value):
        item = one_item(cell, name)
        group, _, member = name.rpartition(".")

        assert (item[group] if group else item)[member] == value

    @pytest.mark.parametrize(
        ("name", "cell"),
        [
            ("usage.input_tokens", "many"),
            ("usage.input_tokens", "1,000"),
            ("usage.input_tokens", "NaN"),
            ("usage.input_tokens", "٣"),
            ("usage.gb", "1.2.3"),
            ("status_code", "200.5"),
            ("duration_ms", "Infinity"),
            ("duration_ms", '1}, {""a"": 2'),
            ("stream", "maybe"),
        ],
    )
    def test_refuses_a_cell_that_its_field_cannot_be(self, name, cell):
        form = csv_form({**TWO_COLUMNS, name: "x"}, {})
        content = f't,p,x\n{START},acme,"{cell}"\n'.encode()

        assert faults_of(content, form) == [(2, f"/{name.replace('.', '/')}", "invalid_cell")]

    @given(st.text(st.characters(codec="utf-8", exclude_characters='"'), min_size=1))
    def test_keeps_every_text_as_it_is_but_for_blanks_around_it(self, text):
        if text.strip() and "\r" not in text:
            assert one_item(text)["request_model"] == text.strip()


class TestRefuseARow:
    def test_with_another_number_of_columns(self):
        content = AZURE.replace(b",8\r\n", b"\r\n").replace(b"4808", b"4,808")

        assert faults_of(content, csv_form()) == [(2, "", "column_count"), (3, "", "column_count")]

    def test_that_is_no_utf8(self):
        form = csv_form(TWO_COLUMNS, {})
        content = f"t,p\n{START},\xe9t\xe9\n{START},ete\n".encode("latin-1")

        assert faults_of(content, form) == [(2, "", "not_utf8")]
        assert len(lines_of(content, form)) == 2

    def test_with_an_open_quote_and_not_the_rows_below_it(self):
        form = csv_form(TWO_COLUMNS, {})
        content = f't,p\n{START},"acme\n{START},one\n{START},two\n'.encode()

        lines = lines_of(content, form)

        assert [(line.line, bool(line.faults)) for line in lines] == [
            (2, True),
            (3, False),
            (4, False),
        ]

    def test_with_a_carriage_return_inside(self):
        (line,) = lines_of(f"t,p\n{START},a\rb\n".encode(), csv_form(TWO_COLUMNS, {}))

        assert "carriage return" in line.faults[0].detail

    def test_that_is_longer_than_memory_should_hold(self):
        form = csv_form(TWO_COLUMNS, {})
        content = b"t,p\n" + b"x" * (2 * LONGEST_LINE + 5) + f"\n{START},acme\n".encode()

        assert faults_of(content, form) == [(2, "", "line_too_long")]
        assert lines_of(content, form)[1].line == 3

    def test_and_says_every_cell_that_is_wrong(self):
        content = HEADER + b"yesterday,many,10\r\n"

        assert [pointer for _, pointer, _ in faults_of(content, csv_form())] == [
            "/started_at",
            "/usage/input_tokens",
        ]


class TestRefuseAFile:
    @pytest.mark.parametrize(
        ("content", "rule"),
        [
            (b"", "has no rows"),
            (HEADER, "has no rows"),
            (HEADER + b"\r\n\r\n", "has no rows"),
            (AZURE.decode().encode("utf-16"), "UTF-16"),
            (b"TIMESTAMP,\xe9\n1,2\n", "no UTF-8"),
            (b"PK\x03\x04\x00\x00,x\n1,2\n", "no UTF-8"),
            (AZURE.replace(b"\r\n", b"\r"), "carriage return"),
        ],
    )
    def test_that_no_calls_can_be_in(self, content, rule):
        with pytest.raises(ImportFault, match=rule) as refused:
            lines_of(content, csv_form())

        assert refused.value.option == "FILE"

    def test_without_the_column_and_names_those_that_it_has(self):
        form = csv_form({**COLUMNS, "usage.input_tokens": "ContextToken"})

        with pytest.raises(ImportFault) as refused:
            lines_of(AZURE, form)

        assert refused.value.detail == (
            "--map: usage.input_tokens=ContextToken: the file has no such column; did you mean "
            "ContextTokens? (it has TIMESTAMP, ContextTokens, GeneratedTokens)"
        )

    def test_whose_column_is_not_the_only_one_of_its_name(self):
        with pytest.raises(ImportFault, match="several columns"):
            lines_of(f"t,p,p\n{START},a,b\n".encode(), csv_form(TWO_COLUMNS, {}))


class TestIdentify:
    def test_gives_the_same_ids_to_a_file_that_has_grown(self):
        grown = AZURE + b"\r\n2023-11-16 20:00:00.0000000,1,1\r\n"

        before, after = items_of(AZURE, csv_form()), items_of(grown, csv_form())

        assert after[: len(before)] == before
        assert len({item["id"] for item in after}) == 4

    def test_gives_the_same_ids_whatever_ends_the_lines(self):
        plain = AZURE.replace(b"\r\n", b"\n")

        assert items_of(plain, csv_form()) == items_of(AZURE, csv_form())

    def test_gives_other_ids_to_another_file(self):
        other = AZURE.replace(b"4808", b"4809")

        ids = {item["id"] for content in (AZURE, other) for item in items_of(content, csv_form())}

        assert len(ids) == 6

    def test_takes_the_id_of_a_column(self):
        form = csv_form(TWO_COLUMNS | {"id": "n"}, {})
        content = f"n,t,p\n a1 ,{START},x\n,{START},x\n".encode()

        mapped, made = items_of(content, form)

        assert mapped["id"] == "a1"
        assert made["id"].startswith("import:")

    def test_puts_the_prefix_before_every_id(self):
        form = csv_form(TWO_COLUMNS | {"id": "n"}, {}, id_prefix="azure-")
        content = f"n,t,p\na1,{START},x\n,{START},x\n".encode()

        ids = [item["id"] for item in items_of(content, form)]

        assert ids[0] == "azure-a1"
        assert ids[1].startswith("azure-")
        assert ids[1].endswith(":3")


class TestReadNdjson:
    def test_takes_a_whole_line_as_it_is(self):
        raw = b'{"id": "a",  "started_at": "2026-01-01T00:00:00.1234567+02:00", "provider": "x"}'

        (line,) = lines_of(b"\n" + raw + b"\r\n\n", ndjson_form())

        assert (line.line, line.item, line.faults) == (2, raw, [])

    def test_fills_in_what_a_line_leaves_out(self):
        form = ndjson_form(
            constants={"provider": "acme", "attribution.environment": "prod", "usage.requests": "1"}
        )
        content = (
            b'{"started_at": "2026-01-01 00:00:00", "attribution": {"team": "a"}}\n'
            b'{"id": "b", "started_at": "2026-01-01T00:00:00Z", "provider": "own", "usage": null}\n'
        )

        first, second = items_of(content, form)

        assert first["id"].endswith(":1")
        assert first["started_at"] == "2026-01-01T00:00:00Z"
        assert first["provider"] == "acme"
        assert first["attribution"] == {"team": "a", "environment": "prod"}
        assert (second["id"], second["provider"]) == ("b", "own")
        assert second["attribution"] == {"environment": "prod"}
        assert second["usage"] == {"requests": 1}

    def test_moves_times_that_are_given_and_filled_in(self):
        form = ndjson_form(constants={"started_at": "2026-01-01 00:00:00"})
        content = b'{"started_at": "2026-01-02T00:00:00Z"}\n{}\n'

        times = [item["started_at"] for item in items_of(content, form, shift=timedelta(minutes=1))]

        assert times == ["2026-01-02T00:01:00Z", "2026-01-01T00:01:00Z"]

    def test_puts_the_prefix_before_every_id(self):
        ids = [item["id"] for item in items_of(b'{"id": "a"}\n{}\n', ndjson_form(id_prefix="p:"))]

        assert ids[0] == "p:a"
        assert ids[1].startswith("p:")

    @pytest.mark.parametrize(
        ("line", "code"),
        [
            (b"{", "json_invalid"),
            (b"{} {}", "json_invalid"),
            (b'{"a": NaN}', "json_invalid"),
            (b'{"a": "\xff"}', "json_invalid"),
            (b"[]", "not_an_object"),
            (b'"call"', "not_an_object"),
            (b'{"started_at": "yesterday"}', "invalid_time"),
            (b"[" * 100_000, "json_invalid"),
        ],
    )
    def test_refuses_a_line_that_is_no_object_and_no_other(self, line, code):
        content = line + b'\n{"id": "b"}\n'

        bad, good = lines_of(content, ndjson_form())

        assert [fault.code for fault in bad.faults] == [code]
        assert not good.faults

    def test_leaves_wrong_types_to_the_rules_of_the_wire(self):
        content = b'{"id": 5, "started_at": 7, "attribution": "x"}\n'

        (item,) = items_of(content, ndjson_form(constants={"attribution.team": "a"}))

        assert item == {"id": 5, "started_at": 7, "attribution": "x"}


class TestGoOn:
    @given(st.data())
    def test_reads_from_any_place_what_was_left(self, data):
        rows = data.draw(
            st.lists(st.sampled_from(["a", '"a\nb"', '"', "", "a,b", "\xe9", "x\ry"]), min_size=1)
        )
        end = data.draw(st.sampled_from(["\n", "\r\n"]))
        content = ("t,p" + end + "".join(f"{START},{row}{end}" for row in rows)).encode("latin-1")
        form = csv_form(TWO_COLUMNS, {})
        calls = open_calls(BytesIO(content), form)
        seen = [(line, calls.place) for line in calls.calls()]

        for number, (_, place) in enumerate(seen):
            again = open_calls(BytesIO(content), form)
            again.go_to(place)
            assert list(again.calls()) == [line for line, _ in seen[number + 1 :]]

    def test_finds_the_last_start_and_stays_where_it_was(self):
        later = AZURE.replace(b"18:17:04.0319600", b"23:59:59.9999999") + b"\r\nnever,1,1\r\n"
        calls = open_calls(BytesIO(later), csv_form())

        assert calls.latest_start() == datetime(2023, 11, 16, 23, 59, 59, 999999)
        assert len(list(calls.calls())) == 4

    def test_finds_no_last_start_where_no_time_can_be_read(self):
        assert open_calls(BytesIO(HEADER + b"x,1,1\n"), csv_form()).latest_start() is None
        assert open_calls(BytesIO(b"{\n[]\n{}\n"), ndjson_form()).latest_start() is None

    def test_finds_the_last_start_of_ndjson(self):
        content = b'{"started_at": "2026-01-02T00:00:00+01:00"}\n{"started_at": 3}\n{}\n'
        form = ndjson_form(constants={"started_at": "2025-01-01 00:00:00"})

        latest = open_calls(BytesIO(content), form).latest_start()

        assert latest == datetime(2026, 1, 1, 23)


class TestReadTheOrder:
    def test_parts_a_field_from_its_value_at_the_first_equals_sign(self):
        assert assignments("--map", ["tags.x=a=b", "usage.gb=GB"]) == {
            "tags.x": "a=b",
            "usage.gb": "GB",
        }

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("started_at", "must read field=value"),
            ("started_at=", "must read field=value"),
            ("=x", "no field of a call"),
            ("tokens=x", "no field of a call"),
            ("usage=x", "no field of a call"),
            ("usage.=x", "no field of a call"),
            ("attribution.teem=x", "did you mean attribution.team?"),
        ],
    )
    def test_refuses_what_is_no_field(self, text, rule):
        with pytest.raises(ImportFault) as refused:
            assignments("--map", [text])

        assert rule in refused.value.detail
        assert refused.value.option == "--map"

    def test_refuses_a_field_that_is_given_twice(self):
        with pytest.raises(ImportFault, match="given twice"):
            assignments("--set", ["provider=a", "provider=b"])

    @pytest.mark.parametrize(
        ("form", "option"),
        [
            (csv_form({}, {"provider": "x"}), "--map"),
            (csv_form({"started_at": "t"}, {}), "--map"),
            (csv_form(COLUMNS, {**CONSTANTS, "id": "x"}), "--set"),
            (csv_form(COLUMNS, {**CONSTANTS, "status_code": "abc"}), "--set"),
            (csv_form(COLUMNS, {**CONSTANTS, "started_at": "abc"}), "--set"),
            (csv_form(id_prefix="a b"), "--id-prefix"),
            (csv_form(id_prefix=""), "--id-prefix"),
            (ndjson_form(columns=COLUMNS), "--map"),
        ],
    )
    def test_refuses_a_form_that_no_file_fits(self, form, option):
        with pytest.raises(ImportFault) as refused:
            check_form(form)

        assert refused.value.option == option

    def test_reads_constants_as_their_fields_want_them(self):
        constants = {"stream": "yes", "usage.gb": "0.5", "cost.amount": "1", "tags.n": "1"}

        assert constants_of(ndjson_form(constants=constants)) == {
            "stream": True,
            "usage": {"gb": "0.5"},
            "cost": {"amount": "1"},
            "tags": {"n": "1"},
        }
