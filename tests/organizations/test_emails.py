import pytest

from app.organizations.emails import normalised_email


class TestNormalisedEmail:
    @pytest.mark.parametrize(
        ("typed", "normalised"),
        [
            ("Alice@Example.COM", "alice@example.com"),
            ("  alice@example.com\n", "alice@example.com"),
            ("a.b+tag@sub.example.co", "a.b+tag@sub.example.co"),
            ("root@localhost", "root@localhost"),
            ("o'hara@example.com", "o'hara@example.com"),
            ("x@xn--bcher-kva.example", "x@xn--bcher-kva.example"),
        ],
    )
    def test_writes_one_address_in_one_way(self, typed, normalised):
        assert normalised_email(typed) == normalised

    @pytest.mark.parametrize(
        "typed",
        [
            "",
            "@",
            "a@",
            "@b",
            "a b@example.com",
            "a@-b.com",
            "a@b-.com",
            "a@b..com",
            "a@b_c.com",
            "\u017f@example.com",  # folds to s
            "a@exämple.com",
            "a@example.com\x00",
            "a" * 65 + "@" + "b" * 250,
            "\u0130@example.com",
        ],
    )
    def test_refuses_what_is_no_address(self, typed):
        with pytest.raises(ValueError, match="e-mail address"):
            normalised_email(typed)
