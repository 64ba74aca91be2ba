import gzip

import pytest

from app.auth.breached import BreachedPasswords, breached_passwords
from app.auth.passwords import PasswordHasher


class TestBreachedPasswords:
    @pytest.mark.parametrize("password", ["password", "12345678", "iloveyou", "PassWord1"])
    def test_know_what_everybody_chooses(self, password):
        assert password in breached_passwords(None)

    def test_know_nothing_else(self):
        assert "correct horse battery" not in breached_passwords(None)
        assert len(breached_passwords(None)) == 16_293

    @pytest.mark.parametrize("name", ["own.txt", "own.txt.gz"])
    def test_are_joined_by_the_list_of_the_operator(self, tmp_path, name):
        raw = b"our town 1999\n\nthe River\n"
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)

        hasher = PasswordHasher(rounds=4, secret="s" * 32, own_list=path)

        assert hasher.is_breached("The river")
        assert hasher.is_breached("password")
        assert not hasher.is_breached("our town 2001")

    def test_of_no_file_hold_nothing(self):
        assert "password" not in BreachedPasswords()
