from uuid import uuid4

import pytest

from app.auth import totp
from app.auth.mfa_secrets import SecretUnreadable, opened_secret, sealed_secret

# RFC 6238 appendix B, SHA-1, the last six digits.
RFC_SECRET = b"12345678901234567890"
KEY = "k" * 32


class TestMatchingStep:
    @pytest.mark.parametrize(
        ("now_s", "code"),
        [
            (59, "287082"),
            (1111111109, "081804"),
            (1111111111, "050471"),
            (1234567890, "005924"),
            (2000000000, "279037"),
            (20000000000, "353130"),
        ],
    )
    def test_knows_the_codes_of_the_rfc(self, now_s, code):
        assert totp.matching_step(RFC_SECRET, code, now_s=now_s) == now_s // 30
        assert totp.matching_step(RFC_SECRET, f"{code[:3]} {code[3:]}", now_s=now_s) == now_s // 30

    @pytest.mark.parametrize(
        ("later_s", "is_taken"), [(-60, False), (-30, True), (30, True), (60, False)]
    )
    def test_takes_one_step_around(self, later_s, is_taken):
        step = totp.matching_step(RFC_SECRET, "050471", now_s=1111111111 + later_s)

        assert (step == 1111111111 // 30) is is_taken

    @pytest.mark.parametrize("code", ["", "1", "12345678901", "abcdef", chr(0x661) * 6])
    def test_takes_no_nonsense(self, code):
        assert totp.matching_step(RFC_SECRET, code, now_s=59) is None


class TestNewRecoveryCodes:
    def test_are_ten_of_120_bits(self):
        codes = totp.new_recovery_codes()

        assert len(set(codes)) == 10
        assert all(len(totp.plain_recovery_code(code)) == 24 for code in codes)
        assert not any(totp.looks_like_totp(code) for code in codes)


class TestSealedSecret:
    def test_is_opened_for_its_person(self):
        user_id = uuid4()

        stored = sealed_secret(RFC_SECRET, user_id=user_id, key=KEY)

        assert stored.startswith("v1:")
        assert opened_secret(stored, user_id=user_id, key=KEY) == RFC_SECRET
        assert stored != sealed_secret(RFC_SECRET, user_id=user_id, key=KEY)

    @pytest.mark.parametrize("key", [KEY, "l" * 32])
    def test_is_of_no_use_in_another_row_or_with_another_key(self, key):
        stored = sealed_secret(RFC_SECRET, user_id=uuid4(), key=KEY)

        with pytest.raises(SecretUnreadable):
            opened_secret(stored, user_id=uuid4(), key=key)

    @pytest.mark.parametrize("stored", ["", "v2:AAAA", "v1:", "v1:AAAA"])
    def test_says_so_when_it_is_broken(self, stored):
        with pytest.raises(SecretUnreadable):
            opened_secret(stored, user_id=uuid4(), key=KEY)
