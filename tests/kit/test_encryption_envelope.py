from __future__ import annotations

import os
import re
import string
from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from app.kit.encryption import envelope
from app.kit.encryption.columns import EncryptedColumn
from app.kit.encryption.errors import DecryptionFailed, EncryptionKeyLost
from app.kit.encryption.key_cache import OpenKey, OpenKeyCache
from app.kit.ids import new_id
from config import Config, ConfigError, KeyMaterial

KEY = AESGCM(os.urandom(32))
OTHER_KEY = AESGCM(os.urandom(32))
KID = new_id()
WHERE = envelope.place(new_id(), "webhooks", "secret", new_id())


def sealed(value: str = "whsec_abc") -> str:
    return envelope.seal(KEY, KID.hex, value, where=WHERE)


class TestSeal:
    def test_writes_version_kid_nonce_and_ciphertext(self):
        assert re.fullmatch(rf"v1:{KID.hex}:[\w+/]{{16}}:[\w+/=]+", sealed())

    def test_never_writes_the_same_text_twice(self):
        assert sealed() != sealed()

    @given(value=st.text(st.characters(exclude_categories=["Cs"])))
    def test_keeps_every_text(self, value):
        assert envelope.unseal(KEY, sealed(value), where=WHERE) == value


class TestUnseal:
    def test_refuses_another_key(self):
        with pytest.raises(DecryptionFailed):
            envelope.unseal(OTHER_KEY, sealed(), where=WHERE)

    def test_refuses_every_changed_letter(self):
        text = sealed()
        # The kid only chooses the key; every letter behind it is authenticated.
        for place in range(len("v1:") + len(KID.hex) + 1, len(text)):
            for letter in "Ax:=":
                changed = text[:place] + letter + text[place + 1 :]
                if changed != text:
                    with pytest.raises(DecryptionFailed):
                        envelope.unseal(KEY, changed, where=WHERE)

    def test_refuses_another_spelling_of_the_same_bytes(self):
        text = sealed()
        body = text.rpartition(":")[2]
        twins = [
            text[:-3] + letter + "=="
            for letter in string.ascii_letters + string.digits
            if b64decode(body[:-3] + letter + "==") == b64decode(body) and letter != text[-3]
        ]

        assert len(twins) > 5
        for twin in twins:
            with pytest.raises(DecryptionFailed):
                envelope.unseal(KEY, twin, where=WHERE)

    @pytest.mark.parametrize(
        "text",
        ["", "v1", "v1:::", f"v1:{KID.hex}", f"v1:{KID.hex}::", f"v1:{KID.hex}:AAAA:AAAA", "é:::"],
    )
    def test_refuses_what_is_cut_off(self, text):
        with pytest.raises(DecryptionFailed):
            envelope.unseal(KEY, text, where=WHERE)

    def test_refuses_what_stands_behind(self):
        for tail in (":", "=", " ", "\n", "A", "AAAA"):
            with pytest.raises(DecryptionFailed):
                envelope.unseal(KEY, sealed() + tail, where=WHERE)


class TestKidOf:
    def test_names_the_key(self):
        assert envelope.kid_of(sealed()) == KID

    @pytest.mark.parametrize(
        "text",
        [
            "", "plain", "v2:" + KID.hex + ":a:b", f"v1:{KID}:a:b", f"v1:{KID.hex.upper()}:a:b",
            "v1:{" + KID.hex + "}:a:b", "v1:no:a:b", "gAAAAABnOld",
        ],
    )  # fmt: skip
    def test_refuses_what_is_none_of_ours(self, text):
        with pytest.raises(DecryptionFailed):
            envelope.kid_of(text)


class TestPlace:
    def test_differs_by_each_part(self):
        ids = (new_id(), new_id())
        places = {
            envelope.place(organization_id, table, column, row_id)
            for organization_id in ids
            for row_id in ids
            for table in ("a", "b")
            for column in ("a", "b")
        }

        assert len(places) == 16

    @pytest.mark.parametrize("name", ["a|b", "a b", "A", "", "a.b.c", 'a"', "a;", "a\n"])
    def test_is_made_of_plain_names_only(self, name):
        with pytest.raises(ValueError, match="is not the name of a table or column"):
            EncryptedColumn(name, "secret")


class TestWrap:
    KEK = envelope.KeyEncryptionKey.of(os.urandom(32))

    def test_opens_for_its_organization_and_kid_only(self):
        organization_id, data_key = new_id(), os.urandom(32)
        wrapped = envelope.wrap(self.KEK, data_key, organization_id=organization_id, kid=KID)
        own = {"organization_id": organization_id, "kid": KID}

        assert len(wrapped) == 60
        assert envelope.unwrap(self.KEK, wrapped, **own) == data_key
        for moved in ({**own, "organization_id": new_id()}, {**own, "kid": new_id()}):
            with pytest.raises(EncryptionKeyLost, match=str(moved["kid"])):
                envelope.unwrap(self.KEK, wrapped, **moved)

    def test_names_each_key_encryption_key_without_telling_it(self):
        key = os.urandom(32)
        kek, other = envelope.KeyEncryptionKey.of(key), self.KEK

        assert kek.id == envelope.KeyEncryptionKey.of(key).id
        assert kek.id != other.id
        assert kek.id not in key.hex()


class TestDerivedKey:
    def test_is_pbkdf2_with_sha256(self):
        # RFC 7914 section 11, the first 32 of 64 bytes.
        expected = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"

        assert envelope.derived_key("passwd", b"salt", 1).hex() == expected


class TestOpenKeyCache:
    @staticmethod
    def key(**fields) -> OpenKey:
        return OpenKey(**{"id": new_id(), "organization_id": new_id(), "cipher": KEY, "is_active": True} | fields)  # fmt: skip

    def test_forgets_a_key_after_two_seconds(self):
        cache, key = OpenKeyCache(), self.key()
        cache.keep(key, clock_s=100.0)

        for kid in (None, key.id):
            assert cache.find(key.organization_id, kid, clock_s=101.99) is key
            assert cache.find(key.organization_id, kid, clock_s=102.0) is None

    def test_offers_no_retired_key_for_writing(self):
        cache, key = OpenKeyCache(), self.key(is_active=False)
        cache.keep(key, clock_s=100.0)

        assert cache.find(key.organization_id, None, clock_s=100.0) is None
        assert cache.find(key.organization_id, key.id, clock_s=100.0) is key

    def test_offers_no_key_to_another_organization(self):
        cache, key = OpenKeyCache(), self.key()
        cache.keep(key, clock_s=100.0)

        assert cache.find(new_id(), key.id, clock_s=100.0) is None

    def test_is_bounded(self):
        cache, keys = OpenKeyCache(most_keys=10), [self.key() for _ in range(50)]
        for key in keys:
            cache.keep(key, clock_s=100.0)

        assert cache.find(keys[0].organization_id, None, clock_s=100.0) is None
        assert cache.find(keys[-1].organization_id, None, clock_s=100.0) is keys[-1]
        assert len(cache._entries) == 10

    def test_forgets_an_organization_at_once(self):
        cache, key, other = OpenKeyCache(), self.key(), self.key()
        for kept in (key, other):
            cache.keep(kept, clock_s=100.0)
        cache.forget(key.organization_id)

        assert cache.find(key.organization_id, None, clock_s=100.0) is None
        assert cache.find(key.organization_id, key.id, clock_s=100.0) is None
        assert cache.find(other.organization_id, None, clock_s=100.0) is other


class TestSettings:
    KEY = bytes(range(32))
    BASE64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

    @pytest.fixture
    def read(self, tmp_path):
        def read(**env: str) -> Config:
            home = {"DEVGUARD_HOME": str(tmp_path / "home")}
            return Config.from_environment(home | env)

        return read

    @pytest.mark.parametrize("text", [BASE64, f" {BASE64}\n", KEY.hex(), KEY.hex().upper()])
    def test_take_a_key(self, read, text):
        assert read(DEVGUARD_ENCRYPTION_KEY=text).encryption_key == KeyMaterial(key=self.KEY)

    @pytest.mark.parametrize("content", [BASE64.encode() + b"\n", os.urandom(28) + b"\xff\xfe\0\n"])
    def test_take_a_key_file(self, read, tmp_path, content):
        path = tmp_path / "key"
        path.write_bytes(content)

        key = read(DEVGUARD_ENCRYPTION_KEY_FILE=str(path)).encryption_key.key

        assert key == (content if len(content) == 32 else self.KEY)

    def test_take_a_passphrase_and_an_old_key(self, read):
        config = read(
            DEVGUARD_ENCRYPTION_PASSPHRASE="correct horse battery",
            DEVGUARD_ENCRYPTION_OLD_KEY=self.BASE64,
        )

        assert config.encryption_key == KeyMaterial(passphrase="correct horse battery")
        assert config.encryption_old_key == KeyMaterial(key=self.KEY)
        assert "horse" not in repr(config)
        assert repr(self.KEY)[2:-1] not in repr(config)

    def test_keep_a_key_of_their_own_in_embedded_mode(self, read, tmp_path):
        first, again = read().encryption_key, read().encryption_key

        assert first == again
        assert len(first.key) == 32
        kept = tmp_path / "home" / "secrets" / "devguard_encryption_key"
        assert kept.read_text().strip() == first.key.hex()
        # As .env.example says: the kept one becomes the old one.
        moved = read(
            DEVGUARD_ENCRYPTION_KEY=self.BASE64, DEVGUARD_ENCRYPTION_OLD_KEY_FILE=str(kept)
        )
        assert moved.encryption_old_key == first

    @pytest.mark.parametrize(
        ("env", "rule"),
        [
            ({"KEY": "short"}, "DEVGUARD_ENCRYPTION_KEY: must be 32 bytes as base64"),
            ({"KEY": "0123456789abcdef0123456789abcdef"}, "must be 32 bytes as base64"),
            ({"KEY": "A" * 43 + "="}, "DEVGUARD_ENCRYPTION_KEY: is too easy to guess"),
            ({"KEY_FILE": "/nowhere"}, "DEVGUARD_ENCRYPTION_KEY_FILE: cannot read /nowhere"),
            ({"PASSPHRASE": "too short"}, "DEVGUARD_ENCRYPTION_PASSPHRASE: must have at least 16"),
            ({"PASSPHRASE": "a" * 40}, "DEVGUARD_ENCRYPTION_PASSPHRASE: must have at least 16"),
            ({"OLD_KEY": "short"}, "DEVGUARD_ENCRYPTION_OLD_KEY: must be 32 bytes as base64"),
            ({"KEY": BASE64, "PASSPHRASE": "correct horse battery"}, "set one of them only"),
        ],
    )
    def test_refuse_by_name(self, read, env, rule):
        with pytest.raises(ConfigError, match=rule) as refusal:
            read(**{f"DEVGUARD_ENCRYPTION_{name}": value for name, value in env.items()})

        assert "battery" not in str(refusal.value)
