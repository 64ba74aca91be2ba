import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.factories import people

EVENTS = "/api/v1/audit/events"
EXPORT = "/api/v1/audit/export"
HEAD = "/api/v1/audit/head"
PROJECTS = "/api/v1/projects"


def names_of(answer):
    return [item["event"] for item in answer.json["items"]]


class TestListEvents:
    def test_shows_who_did_what_to_what_newest_first(self, alice, project):
        newest, *_, oldest = alice.get(EVENTS).json["items"]

        assert newest["event"] == "project.created"
        assert newest["actor"] == {"kind": "user", "id": str(alice.user_id), "label": alice.email}
        assert newest["target"] == {
            "kind": "project", "id": str(project.id), "label": project.name,
        }  # fmt: skip
        assert newest["after"]["slug"] == project.slug
        assert (newest["before"], newest["ip"], newest["seal"]) == (None, "127.0.0.1", None)
        assert newest["occurred_at"] > oldest["occurred_at"]

    @pytest.mark.parametrize("role", ["carol", "bob"])
    def test_is_for_admins_and_owners(self, request, admin, role):
        assert admin.get(EVENTS).status_code == 200
        assert request.getfixturevalue(role).get(EVENTS).status_code == 403

    def test_shows_nothing_of_others(self, alice, project, stranger):
        shown = stranger.get(EVENTS, query_string={"target_id": str(project.id)})

        assert shown.json["items"] == []

    def test_goes_on_where_the_page_ended(self, alice, make_project):
        made = [str(make_project().id) for _ in range(5)]
        arguments = {"event": "project.created", "limit": 2}
        seen, cursor = [], None
        while True:
            page = alice.get(
                EVENTS, query_string=arguments | ({"cursor": cursor} if cursor else {})
            )
            seen += [item["target"]["id"] for item in page.json["items"]]
            cursor = page.json["next_cursor"]
            if cursor is None:
                break

        assert seen == made[::-1]

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({"event": "project.updated"}, ["project.updated"]),
            ({"event": ["project.updated", "project.created"]}, ["project.updated", "project.created"]),
            ({"target_kind": "project"}, ["project.updated", "project.created"]),
            ({"label": "RENA"}, ["project.updated"]),
            ({"label": "check"}, ["project.created"]),
            ({"actor_kind": "operator"}, []),
            ({"request_id": "request-77"}, ["project.updated"]),
            ({"from": "2100-01-01T00:00:00Z"}, []),
            ({"to": "2020-01-01T00:00:00Z"}, []),
        ],
    )  # fmt: skip
    def test_filters(self, alice, project, wanted, found):
        alice.patch(
            f"{PROJECTS}/{project.id}",
            json={"name": "Renamed"},
            headers={"X-Request-Id": "request-77"},
        )

        assert names_of(alice.get(EVENTS, query_string=wanted)) == found

    def test_filters_by_actor_and_target(self, alice, admin, project):
        made = people.make_project(admin)

        by_admin = {"actor_id": str(admin.user_id), "target_kind": "project"}
        shown = alice.get(EVENTS, query_string=by_admin).json["items"]
        assert [item["target"]["id"] for item in shown] == [str(made.id)]
        at_target = alice.get(EVENTS, query_string={"target_id": str(project.id)})
        assert names_of(at_target) == ["project.created"]

    def test_filters_by_time(self, alice, project):
        soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
        recent = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()

        shown = alice.get(EVENTS, query_string={"from": recent, "to": soon})
        assert "project.created" in names_of(shown)

    def test_refuses_an_event_that_does_not_exist(self, alice):
        assert alice.get(EVENTS, query_string={"event": "made.up"}).status_code == 422

    def test_survives_a_row_that_somebody_broke(self, alice, as_system):
        as_system(
            "INSERT INTO audit_logs (id, organization_id, occurred_at, event, actor_kind,"
            " actor_label, target_kind, target_id, target_label, after)"
            " VALUES (gen_random_uuid(), :id, now(), 'x', 'system', 'x', 'x', 'x', 'x', '{')",
            id=alice.organization_id,
        )

        (broken,) = alice.get(EVENTS, query_string={"target_kind": "x"}).json["items"]
        assert broken["after"] == {"unreadable": "{"}


class TestExportEvents:
    def test_writes_csv(self, alice, project):
        answer = alice.get(EXPORT, query_string={"target_kind": "project"})

        assert answer.content_type == "text/csv; charset=utf-8"
        assert "attachment" in answer.headers["Content-Disposition"]
        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert (row["event"], row["target_label"]) == ("project.created", project.name)
        assert json.loads(row["after"])["slug"] == project.slug

    def test_writes_ndjson(self, alice, project):
        answer = alice.get(EXPORT, query_string={"format": "ndjson", "target_kind": "project"})

        assert answer.content_type == "application/x-ndjson"
        (line,) = answer.text.splitlines()
        shown = alice.get(EVENTS, query_string={"target_kind": "project"}).json["items"]
        assert [json.loads(line)] == shown

    @pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum(a1)", "\uff1d1+1"])
    def test_holds_no_formula(self, alice, make_project, name):
        make_project(name=name)

        answer = alice.get(EXPORT, query_string={"target_kind": "project"})

        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert row["target_label"] == f"'{name}"

    def test_goes_on_with_the_link(self, alice, make_project):
        made = {str(make_project().id) for _ in range(3)}
        arguments = {"format": "ndjson", "limit": 2, "target_kind": "project"}

        first = alice.get(EXPORT, query_string=arguments)
        target = first.headers["Link"].partition(">")[0].removeprefix("<")
        second = alice.get(target)

        lines = [*first.text.splitlines(), *second.text.splitlines()]
        assert {json.loads(line)["target"]["id"] for line in lines} == made
        assert "Link" not in second.headers

    def test_is_itself_an_event(self, alice):
        alice.get(EXPORT, query_string={"actor_kind": "user"})

        (newest,) = alice.get(EVENTS, query_string={"limit": 1}).json["items"]
        assert newest["event"] == "audit.exported"
        assert newest["after"]["filters"] == {"event": [], "actor_kind": "user", "format": "csv"}

    def test_is_for_admins_and_owners(self, bob):
        assert bob.get(EXPORT).status_code == 403


class TestShowHead:
    def test_of_a_new_organization_is_its_beginning(self, alice, stranger):
        head = alice.get(HEAD).json

        assert (head["position"], head["sealed_at"]) == (0, None)
        assert head["seal"] != stranger.get(HEAD).json["seal"]

    def test_is_for_admins_and_owners(self, bob):
        assert bob.get(HEAD).status_code == 403
