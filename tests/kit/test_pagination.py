"""Cursors: opaque, signed, and good for one list of one tenant only."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.actor import Actor, ActorKind
from app.kit.endpoint import REGISTRY
from app.kit.errors import InvalidPayload
from app.kit.ids import new_id
from app.kit.pagination import CursorSigner, PageArguments, filters_of, page_of
from app.kit.tenancy import NoOrganization, _organization_id, enter_organization
from tests.kit.probe_routes import Numbers

OURS, THEIRS = new_id(), new_id()
POSITION = ["2026-11-20T10:00:00+00:00", "01JD5Q8Z-1"]


def signer(
    *, organization_id: UUID = OURS, key: str = "k" * 32, name: str = "list", filters: object = None
) -> CursorSigner:
    token = _organization_id.set(organization_id)
    try:
        return CursorSigner(key=key, name=name, filters=filters)
    finally:
        _organization_id.reset(token)


class TestCursor:
    @given(st.lists(st.text(st.characters(codec="utf-8")), max_size=4))
    def test_holds_any_position(self, position):
        assert signer().position_of(signer().cursor_of(position)) == position

    def test_shows_nothing_that_a_url_must_escape(self):
        assert set(signer().cursor_of(["/+?&=ü"])) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        )

    @given(st.data())
    def test_is_refused_after_any_change(self, data):
        cursor = signer().cursor_of(POSITION)
        place = data.draw(st.integers(0, len(cursor) - 1))
        replacement = data.draw(st.text(max_size=2).filter(lambda text: text != cursor[place]))

        with pytest.raises(InvalidPayload):
            signer().position_of(cursor[:place] + replacement + cursor[place + 1 :])

    @given(
        st.text(max_size=60)
        | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode())
    )
    def test_is_refused_when_it_is_none_of_ours(self, text):
        with pytest.raises(InvalidPayload) as caught:
            signer().position_of(text)

        assert [fault.pointer for fault in caught.value.faults] == ["/cursor"]

    @pytest.mark.parametrize(
        "other",
        [
            signer(organization_id=THEIRS),
            signer(name="another_list"),
            signer(filters={"status": "ok"}),
            signer(key="x" * 32),
        ],
        ids=["of another tenant", "of another list", "of other filters", "of another secret"],
    )
    def test_is_refused_elsewhere(self, other):
        with pytest.raises(InvalidPayload):
            signer().position_of(other.cursor_of(POSITION))

    def test_needs_an_organization(self):
        with pytest.raises(NoOrganization):
            CursorSigner(key="k" * 32, name="list", filters=None)


class TestPageOf:
    @given(st.integers(0, 30), st.integers(1, 10))
    def test_shows_every_row_once(self, count, limit):
        rows, seen, start, pages = list(range(count)), [], 0, 0
        while True:
            page = page_of(
                rows[start : start + limit + 1],
                limit=limit,
                position=lambda row: [str(row)],
                signer=signer(),
            )
            seen += page.items
            pages += 1
            if page.next_cursor is None:
                break
            start = int(signer().position_of(page.next_cursor)[0]) + 1

        assert seen == rows
        assert pages == max(1, -(-count // limit))


class TestFiltersOf:
    def test_leaves_out_the_page_itself(self):
        assert filters_of(Numbers(limit=3, cursor="x", least=7)) == {"least": 7}
        assert filters_of(PageArguments()) == {}


@pytest.fixture
def reader(probe, monkeypatch):
    """A caller whose organization is named in his token."""

    def authenticate(token: str) -> Actor:
        organization_id = UUID(token)
        enter_organization(organization_id)
        return Actor(
            kind=ActorKind.USER,
            organization_id=organization_id,
            user_id=organization_id,
            api_key_id=None,
            session_id=None,
            role="viewer",
            scopes=frozenset({"probe:read"}),
            project_id=None,
            label="reader",
        )

    monkeypatch.setattr(REGISTRY, "authenticator", authenticate)

    def get(url: str, organization_id: UUID = OURS):
        return probe.get(url, headers={"Authorization": f"Bearer {organization_id}"})

    return get


class TestList:
    def test_is_walked_by_its_links(self, reader):
        url, numbers = "/probe/numbers?limit=10&least=2", []
        while url:
            answer = reader(url)
            numbers += [item["number"] for item in answer.json["items"]]
            url = answer.headers.get("Link", "").partition(">")[0].lstrip("<")

        assert numbers == list(range(2, 25))

    def test_names_the_next_page_in_body_and_link_alike(self, reader):
        answer = reader("/probe/numbers?least=2")

        target, _, relation = answer.headers["Link"].partition("; ")
        arguments = parse_qs(urlsplit(target.strip("<>")).query)
        assert relation == 'rel="next"'
        assert arguments == {"least": ["2"], "cursor": [answer.json["next_cursor"]]}
        assert len(answer.json["items"]) == 20

    def test_ends_with_null_and_no_link(self, reader):
        answer = reader("/probe/numbers?limit=100")

        assert answer.json["next_cursor"] is None
        assert "Link" not in answer.headers

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "x", ""])
    def test_refuses_a_limit_out_of_bounds(self, reader, limit):
        assert reader(f"/probe/numbers?limit={limit}").status_code == 422

    def test_refuses_the_cursor_of_another_tenant_or_of_other_filters(self, reader):
        cursor = reader("/probe/numbers?limit=5").json["next_cursor"]

        assert reader(f"/probe/numbers?limit=9&cursor={cursor}").status_code == 200
        for url, caller in (
            (f"/probe/numbers?cursor={cursor}", THEIRS),
            (f"/probe/numbers?cursor={cursor}&least=1", OURS),
            (f"/probe/numbers?cursor={cursor}x", OURS),
            ("/probe/numbers?cursor=", OURS),
        ):
            answer = reader(url, caller)
            assert answer.status_code == 422, url
            assert answer.json["errors"][0]["pointer"] == "/cursor"
