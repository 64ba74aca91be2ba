from decimal import Decimal

import pytest
from genai_prices.data_units import unit_data
from genai_prices.units import UnitRegistry
from hypothesis import given
from hypothesis import strategies as st

from app.api_gateway.usage import (
    ANCESTORS,
    KNOWN_UNITS,
    TOKEN_UNITS,
    UNIT_BY_LIBRARY_NAME,
    UsageViolation,
    count_fault,
    is_unit_name,
    usage_violations,
)

LIBRARY = UnitRegistry(unit_data)

# Parts that exclude each other, each in the wholes that contain it: any counts of these add up.
SLICES = st.dictionaries(st.sampled_from(sorted(KNOWN_UNITS)), st.integers(0, 10**6), max_size=12)


def totals_of(slices: dict[str, int]) -> dict[str, int]:
    usage: dict[str, int] = {}
    for unit, count in slices.items():
        for whole in (unit, *ANCESTORS[unit]):
            usage[whole] = usage.get(whole, 0) + count
    return usage


class TestUnits:
    def test_name_every_unit_of_the_library_exactly_once(self):
        assert set(UNIT_BY_LIBRARY_NAME) == set(LIBRARY.units)
        assert len(KNOWN_UNITS) == len(LIBRARY.units)

    def test_are_part_of_each_other_as_in_the_library(self):
        for library_name, name in UNIT_BY_LIBRARY_NAME.items():
            expected = {UNIT_BY_LIBRARY_NAME[a] for a in LIBRARY.ancestor_usage_keys(library_name)}

            assert ANCESTORS[name] == expected

    @pytest.mark.parametrize(
        ("name", "library_name"),
        [
            ("input_tokens", "input_tokens"),
            ("cache_read_input_tokens", "cache_read_tokens"),
            ("cache_write_input_tokens", "cache_write_tokens"),
            ("cache_write_1h_input_tokens", "cache_write_1h_tokens"),
            ("reasoning_output_tokens", "output_reasoning_tokens"),
            ("audio_input_tokens", "input_audio_tokens"),
            ("cache_read_audio_input_tokens", "cache_audio_read_tokens"),
            ("cache_write_1h_audio_input_tokens", "cache_audio_write_1h_tokens"),
            ("image_output_tokens", "output_image_tokens"),
            ("audio_input_seconds", "input_audio_seconds"),
            ("annotated_document_pages", "input_annotated_document_pages"),
        ],
    )
    def test_read_kind_modality_direction(self, name, library_name):
        assert KNOWN_UNITS[name].library_name == library_name


class TestUsageViolations:
    @given(SLICES)
    def test_are_none_when_the_parts_add_up(self, slices):
        assert usage_violations(totals_of(slices)) == ()

    @given(SLICES.filter(lambda slices: any(slices.values())), st.data())
    def test_are_found_when_a_whole_is_made_smaller_than_its_part(self, slices, data):
        usage = totals_of(slices)
        pairs = [(p, w) for p in usage if usage[p] for w in ANCESTORS[p]]
        if not pairs:
            return
        part, whole = data.draw(st.sampled_from(pairs))

        violations = usage_violations({**usage, whole: usage[part] - 1})

        assert any(part in v.units or v.total_unit in {whole, part} for v in violations)

    def test_say_both_numbers(self):
        (violation,) = usage_violations({"input_tokens": 86, "cache_read_input_tokens": 1920})

        assert violation == UsageViolation(("cache_read_input_tokens",), 1920, "input_tokens", 86)
        assert violation.unit == "cache_read_input_tokens"
        assert str(violation) == "1920 of 86 input tokens"

    def test_are_all_reported(self):
        usage = {
            "input_tokens": 10,
            "cache_read_input_tokens": 11,
            "cache_write_input_tokens": 3,
            "cache_write_1h_input_tokens": 4,
            "output_tokens": 5,
            "reasoning_output_tokens": 6,
        }

        found = {(v.unit, v.count, v.total) for v in usage_violations(usage)}

        assert found == {
            ("cache_read_input_tokens", 11, 10),
            ("cache_write_1h_input_tokens", 4, 3),
            ("reasoning_output_tokens", 6, 5),
        }

    def test_add_up_parts_that_exclude_each_other(self):
        usage = {
            "input_tokens": 100,
            "cache_read_input_tokens": 60,
            "cache_write_input_tokens": 50,
        }

        (violation,) = usage_violations(usage)

        parts = "cache_read_input_tokens + cache_write_input_tokens"
        assert str(violation) == f"110 ({parts}) of 100 input tokens"
        assert violation.count == 110
        assert violation.total == 100
        assert violation.units == ("cache_read_input_tokens", "cache_write_input_tokens")

    def test_let_parts_of_different_kinds_overlap(self):
        usage = {"input_tokens": 100, "cache_read_input_tokens": 60, "audio_input_tokens": 50}

        assert usage_violations(usage) == ()

    def test_refuse_a_part_whose_whole_is_absent(self):
        (violation,) = usage_violations({"output_tokens": 3, "cache_read_input_tokens": 1})

        assert violation.total is None
        assert str(violation) == "1 but no input_tokens"

    def test_take_a_zero_part_without_its_whole(self):
        assert usage_violations({"cache_read_input_tokens": 0, "audio_input_seconds": 0}) == ()

    def test_leave_units_of_a_tenant_alone(self):
        assert usage_violations({"pages": 3, "gb": Decimal("0.5")}) == ()


class TestCountFault:
    @pytest.mark.parametrize(
        ("unit", "count"),
        [
            ("input_tokens", 0),
            ("input_tokens", 10**15),
            ("audio_seconds", Decimal("12.34")),
            ("gb", Decimal("0.000000000001")),
            ("pages", 3),
        ],
    )
    def test_is_none_for_what_can_be_counted(self, unit, count):
        assert count_fault(unit, count) is None

    @pytest.mark.parametrize(
        ("unit", "count"),
        [
            ("input_tokens", -1),
            ("input_tokens", 1.0),
            ("input_tokens", True),
            ("input_tokens", "7"),
            ("input_tokens", None),
            ("input_tokens", Decimal(7)),
            ("input_tokens", 10**15 + 1),
            ("gb", Decimal("NaN")),
            ("gb", Decimal("Infinity")),
            ("gb", Decimal("-0.1")),
            ("gb", Decimal("1e-13")),
        ],
    )
    def test_says_what_is_wrong(self, unit, count):
        assert count_fault(unit, count)


class TestIsUnitName:
    def test_holds_for_every_known_unit(self):
        assert all(map(is_unit_name, KNOWN_UNITS))
        assert KNOWN_UNITS.keys() > TOKEN_UNITS

    @pytest.mark.parametrize("name", ["pages", "gb", "a" * 63, "x_1"])
    def test_holds_for_what_a_tenant_may_choose(self, name):
        assert is_unit_name(name)

    @pytest.mark.parametrize("name", ["", "Pages", "1x", "_x", "a" * 64, "a-b", "a\n", "é"])
    def test_fails_for_anything_else(self, name):
        assert not is_unit_name(name)
