import re

import pytest

from app.auth.key_format import (
    LEAKED,
    KeyKind,
    digest_of,
    is_well_formed,
    looks_like_a_key,
    new_key,
)


class TestNewKey:
    @pytest.mark.parametrize(
        ("kind", "prefix"),
        [(KeyKind.PERSONAL, "dgp_"), (KeyKind.SERVICE, "dgs_"), (KeyKind.INGEST, "dgi_")],
    )
    def test_says_its_kind(self, kind, prefix):
        key = new_key(kind)

        assert key.startswith(prefix)
        assert len(key) == 40
        assert is_well_formed(key)

    def test_is_found_in_a_leak(self):
        key = new_key(KeyKind.INGEST)

        assert re.findall(LEAKED, f"export DEVGUARD_KEY='{key}';") == [key]

    def test_never_repeats(self):
        assert len({new_key(KeyKind.INGEST) for _ in range(1000)}) == 1000


class TestIsWellFormed:
    def test_keeps_its_published_checksum(self):
        assert is_well_formed("dgi_" + "0" * 30 + "2zHCsG")

    def test_refuses_every_changed_character(self):
        key = new_key(KeyKind.INGEST)

        for place in range(4, 40):
            other = "A" if key[place] != "A" else "B"
            assert not is_well_formed(key[:place] + other + key[place + 1 :])

    def test_refuses_another_kind_on_the_same_digits(self):
        assert not is_well_formed("dgp_" + new_key(KeyKind.INGEST)[4:])

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "dgi_",
            "dgx_" + "0" * 36,
            "dgi_" + "0" * 35,
            "dgi_" + "0" * 1_000_000,
            "dgi_" + "é" * 36,
            "dgi_" + "٣" * 36,
            "dgi_" + "0" * 30 + "2zHCsG\n",
            " dgi_" + "0" * 30 + "2zHCsG",
        ],
    )
    def test_refuses_what_is_no_key(self, text):
        assert not is_well_formed(text)


class TestLooksLikeAKey:
    def test_tells_a_broken_key_from_another_credential(self):
        assert looks_like_a_key("dgi_broken")
        assert not looks_like_a_key("eyJhbGciOiJIUzI1NiJ9.e30.x")


class TestDigestOf:
    def test_is_sha256(self):
        assert digest_of("abc").hex().startswith("ba7816bf8f01cfea")
