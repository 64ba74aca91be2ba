import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.projects.slugs import LONGEST_SLUG, SLUG_PATTERN, slug_of


class TestSlugOf:
    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("Checkout", "checkout"),
            ("  Check out, please! ", "check-out-please"),
            ("Zürich Café №1", "zurich-cafe-no1"),
            ("a__b--c", "a-b-c"),
            ("支付", "project"),
            ("---", "project"),
            ("x" * 62 + " y", "x" * 62),
        ],
    )
    def test_keeps_what_fits_into_a_url(self, name, slug):
        assert slug_of(name) == slug

    @given(st.text())
    def test_always_makes_a_slug(self, name):
        slug = slug_of(name)

        assert re.fullmatch(SLUG_PATTERN, slug)
        assert len(slug) <= LONGEST_SLUG
