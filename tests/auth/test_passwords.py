import time

import bcrypt
import pytest

from app.auth.passwords import ARGON2_MARK, PasswordHasher, is_too_easy, mark_of, nobody_of

ARGON2 = PasswordHasher(rounds=4, secret="s" * 32, scheme="argon2id")
HASHER = PasswordHasher(rounds=4, secret="s" * 32)
LONG = "€" * 100


class TestHashed:
    def test_names_its_scheme(self):
        assert HASHER.hashed("correct horse").startswith("bcrypt:$2b$04$")

    def test_names_scheme_and_key_of_what_bcrypt_would_cut(self):
        scheme, _, digest = HASHER.hashed(LONG).partition(":")

        assert scheme.startswith("bcrypt-hmac-sha256.")
        assert digest.startswith("$2b$04$")

    def test_differs_each_time(self):
        assert HASHER.hashed("correct horse") != HASHER.hashed("correct horse")


class TestMatches:
    @pytest.mark.parametrize("password", ["correct horse", "x" * 72, "x" * 73, LONG, "ü" * 36])
    def test_finds_the_password_right(self, password):
        assert HASHER.matches(password, HASHER.hashed(password))

    @pytest.mark.parametrize(
        ("typed", "stored"),
        [
            ("Correct horse", "correct horse"),
            ("correct horse ", "correct horse"),
            ("x" * 72, "x" * 73),
            ("x" * 73, "x" * 72),
            (LONG + "€", LONG),
            (LONG[:-1] + "$", LONG),
        ],
    )
    def test_finds_another_password_wrong(self, typed, stored):
        assert not HASHER.matches(typed, HASHER.hashed(stored))

    def test_never_takes_the_pre_hash_for_the_password(self):
        stored = HASHER.hashed(LONG)

        assert not HASHER.matches(HASHER._shortened(LONG.encode()).decode(), stored)

    def test_finds_a_password_wrong_whose_pre_hash_key_is_lost(self):
        stored = PasswordHasher(rounds=4, secret="another " * 4).hashed(LONG)

        assert not HASHER.matches(LONG, stored)

    def test_reads_an_imported_hash_that_names_no_scheme(self):
        imported = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()

        assert HASHER.matches("correct horse", imported)
        assert HASHER.is_outdated(imported)

    @pytest.mark.parametrize("password", ["correct horse", LONG, ""])
    def test_takes_nobody_for_anybody(self, password):
        assert not HASHER.matches(password, None)

    @pytest.mark.parametrize("password", ["correct horse", LONG])
    def test_works_as_hard_for_nobody_as_for_somebody(self, monkeypatch, password):
        stored = HASHER.hashed("somebody's password")
        costs = []
        check = bcrypt.checkpw

        def counted(secret, digest):
            costs.append(digest[:7])
            return check(secret, digest)

        monkeypatch.setattr(bcrypt, "checkpw", counted)

        HASHER.matches(password, stored)
        HASHER.matches(password, None)

        assert costs == [b"$2b$04$", b"$2b$04$"]

    def test_takes_as_long_for_nobody_as_for_somebody(self):
        hasher = PasswordHasher(rounds=9, secret="s" * 32)
        stored = hasher.hashed("somebody's password")

        # In turns and by the processor's time, so that other work on the machine tells nothing.
        pairs = [(_seconds(hasher, stored), _seconds(hasher, None)) for _ in range(9)]

        somebody, nobody = (min(times) for times in zip(*pairs, strict=True))
        assert nobody == pytest.approx(somebody, rel=0.5)


class TestArgon2id:
    @pytest.mark.parametrize("password", ["correct horse", "x" * 73, LONG])
    def test_makes_and_finds_its_own(self, password):
        stored = ARGON2.hashed(password)

        assert stored.startswith(f"argon2id:{ARGON2_MARK}")
        assert ARGON2.matches(password, stored)
        assert not ARGON2.matches(password + "x", stored)

    def test_is_read_by_a_bcrypt_hasher_and_the_other_way_round(self):
        assert HASHER.matches("correct horse", ARGON2.hashed("correct horse"))
        assert ARGON2.matches(LONG, HASHER.hashed(LONG))

    def test_makes_the_other_scheme_outdated(self):
        assert HASHER.is_outdated(ARGON2.hashed("correct horse"))
        assert ARGON2.is_outdated(HASHER.hashed("correct horse"))
        assert not ARGON2.is_outdated(ARGON2.hashed("correct horse"))

    @pytest.mark.parametrize("digest", ["", "?", "$argon2id$v=19$m=8,t=1,p=1$", "$argon2id$"])
    def test_finds_every_password_wrong_where_the_text_is_broken(self, digest):
        assert not ARGON2.matches("correct horse", f"argon2id:{digest}")

    def test_takes_nobody_for_anybody(self):
        assert not ARGON2.matches("correct horse", None)

    @pytest.mark.parametrize("mark", [ARGON2_MARK, "$2b$04$"])
    def test_marks_the_hash_of_nobody_as_slow_as_any(self, mark):
        assert mark_of(nobody_of(mark)) == mark
        assert not HASHER.matches("", nobody_of(mark))


class TestIsOutdated:
    def test_is_true_when_the_cost_differs(self):
        assert PasswordHasher(rounds=5, secret="s" * 32).is_outdated(HASHER.hashed("correct horse"))

    @pytest.mark.parametrize("password", ["correct horse", LONG])
    def test_is_false_for_what_it_made(self, password):
        assert not HASHER.is_outdated(HASHER.hashed(password))


class TestIsTooEasy:
    @pytest.mark.parametrize(
        "password",
        ["aaaaaaaa", "abababab", "Alice123", "alice@example.com", "ACME!!!!!", "devguard1"],
    )
    def test_finds_repetition_and_own_words(self, password):
        assert is_too_easy(password, own_words=("alice@example.com", "Alice", "Acme"))

    @pytest.mark.parametrize("password", ["correct horse battery", "alice likes tea", "x7!kPq2z"])
    def test_asks_for_no_composition(self, password):
        assert not is_too_easy(password, own_words=("alice@example.com", "Alice", "Acme"))


def _seconds(hasher, stored):
    begun = time.thread_time()
    hasher.matches("a wrong password", stored)
    return time.thread_time() - begun
