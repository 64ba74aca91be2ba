"""Projects through HTTP."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.kit.ids import new_id

PROJECTS = "/api/v1/projects"


@pytest.fixture
def path(project):
    return f"{PROJECTS}/{project.id}"


def names(person, **arguments):
    answer = person.get(PROJECTS, query_string=arguments)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json["items"]]


class TestCreateProject:
    def test_answers_the_project_and_where_it_lives(self, alice):
        answer = alice.post(PROJECTS, json={"name": "Check out", "description": "Buys"})

        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{PROJECTS}/{answer.json['id']}"
        assert alice.get(answer.headers["Location"]).json == answer.json
        assert answer.json["slug"] == "check-out"
        assert answer.json["description"] == "Buys"
        assert answer.json["environments"] == ["production"]
        assert answer.json["version"] == 1
        assert answer.json["archived_at"] is None

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({"name": "Shop"}, {"name": "shop!"}),
            ({"name": "One", "slug": "shop"}, {"name": "Two", "slug": "shop"}),
            ({"name": "One", "slug": "shop"}, {"name": "Shop"}),
        ],
    )
    def test_refuses_a_taken_slug(self, alice, first, second):
        assert alice.post(PROJECTS, json=first).status_code == 201

        answer = alice.post(PROJECTS, json=second)

        assert answer.status_code == 409
        assert answer.json["code"] == "slug_taken"

    def test_gives_a_slug_once_when_two_ask_at_once(self, alice):
        with ThreadPoolExecutor(6) as pool:
            asked = pool.map(lambda _: alice.post(PROJECTS, json={"name": "Shop"}), range(6))

        assert sorted(answer.status_code for answer in asked) == [201] + [409] * 5

    def test_lets_another_organization_use_the_slug(self, alice, stranger):
        for person in (alice, stranger):
            assert person.post(PROJECTS, json={"name": "Shop"}).status_code == 201

    def test_gives_the_slug_of_a_deleted_project_again(self, alice):
        gone = alice.post(PROJECTS, json={"name": "Shop"}).json
        alice.delete(f"{PROJECTS}/{gone['id']}")

        assert alice.post(PROJECTS, json={"name": "Shop"}).status_code == 201

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"name": ""}, "/name"),
            ({"name": "x" * 201}, "/name"),
            ({"name": "nul \x00"}, "/name"),
            ({"slug": "Not Plain"}, "/slug"),
            ({"slug": "-a"}, "/slug"),
            ({"slug": "a" * 64}, "/slug"),
            ({"slug": "a\n"}, "/slug"),
            ({"description": "x" * 2001}, "/description"),
            ({"description": None}, "/description"),
            ({"environments": ["a", "a"]}, "/environments"),
            ({"environments": ["no blanks"]}, "/environments/0"),
            ({"environments": [f"e{place}" for place in range(51)]}, "/environments"),
            ({"environments": "production"}, "/environments"),
            ({"id": str(new_id())}, "/id"),
            ({"organization_id": str(new_id())}, "/organization_id"),
            ({"version": 7}, "/version"),
            ({"deleted_at": None}, "/deleted_at"),
        ],
    )
    def test_names_the_broken_rule(self, alice, fields, pointer):
        answer = alice.post(PROJECTS, json={"name": "Shop", **fields})

        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]

    def test_is_for_members(self, bob, carol):
        assert bob.post(PROJECTS, json={"name": "Shop"}).status_code == 403
        assert carol.post(PROJECTS, json={"name": "Shop"}).status_code == 201


class TestListProjects:
    @pytest.fixture(autouse=True)
    def shelf(self, alice):
        for name in ("Beta", "alpha", "Gamma", "100%_sure"):
            alice.post(PROJECTS, json={"name": name})

    def test_shows_the_newest_first(self, alice):
        assert names(alice) == ["100%_sure", "Gamma", "alpha", "Beta"]

    @pytest.mark.parametrize(
        ("sort", "first"),
        [
            ("slug", "100%_sure"),
            ("-slug", "Gamma"),
            ("created_at", "Beta"),
            ("-updated_at", "100%_sure"),
        ],
    )
    def test_sorts(self, alice, sort, first):
        assert names(alice, sort=sort)[0] == first

    @pytest.mark.parametrize("sort", ["name", "-name", "slug", "created_at", "-updated_at"])
    def test_pages_through_everything_once(self, alice, sort):
        seen, arguments = [], {"sort": sort, "limit": 1}
        while True:
            answer = alice.get(PROJECTS, query_string=arguments).json
            seen += [item["name"] for item in answer["items"]]
            if answer["next_cursor"] is None:
                break
            arguments["cursor"] = answer["next_cursor"]

        assert seen == names(alice, sort=sort)
        assert len(seen) == 4

    @pytest.mark.parametrize(
        ("arguments", "found"),
        [
            ({"name": "AL"}, ["alpha"]),
            ({"name": "100%_"}, ["100%_sure"]),
            ({"name": "%"}, []),
            ({"slug": "ga"}, ["Gamma"]),
            ({"name": "b", "slug": "ga"}, []),
        ],
    )
    def test_finds_what_begins_with(self, alice, arguments, found):
        assert names(alice, **arguments) == found

    def test_tells_the_archived_apart(self, alice):
        gamma = alice.get(PROJECTS, query_string={"name": "Gamma"}).json["items"][0]
        alice.patch(f"{PROJECTS}/{gamma['id']}", json={"archived": True})

        assert names(alice, archived="true") == ["Gamma"]
        assert "Gamma" not in names(alice, archived="false")
        assert len(names(alice)) == 4

    def test_shows_nothing_of_others(self, stranger):
        assert names(stranger) == []

    def test_refuses_a_cursor_with_other_filters_or_of_others(self, alice, stranger):
        answer = alice.get(PROJECTS, query_string={"limit": 1})
        cursor = answer.json["next_cursor"]
        assert f"cursor={cursor}" in answer.headers["Link"]

        for person, arguments in (
            (alice, {"sort": "name"}),
            (alice, {"name": "a"}),
            (stranger, {}),
        ):
            refused = person.get(PROJECTS, query_string={"cursor": cursor, **arguments})
            assert refused.status_code == 422

    @pytest.mark.parametrize(
        "arguments",
        [
            {"sort": "description"},
            {"sort": "deleted_at"},
            {"sort": "name; DROP TABLE projects"},
            {"limit": "101"},
            {"limit": "x"},
            {"archived": "perhaps"},
            {"cursor": ""},
            {"cursor": "AAAA"},
            {"organization_id": "x"},
        ],
    )
    def test_refuses_what_it_does_not_know(self, alice, arguments):
        assert alice.get(PROJECTS, query_string=arguments).status_code == 422

    def test_survives_a_nul_in_a_filter(self, alice):
        assert alice.get(f"{PROJECTS}?name=%00").status_code == 422
        assert alice.get(f"{PROJECTS}?slug=a%00").status_code == 422


class TestShowProject:
    def test_is_for_everybody_of_the_organization(self, bob, path, project):
        assert bob.get(path).json["name"] == project.name

    def test_hides_the_project_of_others(self, stranger, path):
        foreign = stranger.get(path)
        unknown = stranger.get(f"{PROJECTS}/{new_id()}")

        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json["detail"] == unknown.json["detail"]

    def test_knows_no_other_form_of_id(self, alice):
        assert alice.get(f"{PROJECTS}/1").status_code == 404


class TestReplaceProject:
    def test_puts_what_is_left_out_back_to_its_default(self, alice, path):
        alice.patch(path, json={"description": "Old", "archived": True})

        answer = alice.put(path, json={"name": "New", "slug": "new"})

        assert answer.status_code == 200
        assert answer.json["name"] == "New"
        assert answer.json["description"] == ""
        assert answer.json["archived_at"] is None
        assert answer.json["version"] == 3

    def test_needs_the_whole_project(self, alice, path):
        assert alice.put(path, json={"name": "New"}).status_code == 422


class TestUpdateProject:
    def test_changes_what_is_sent(self, alice, path, project):
        answer = alice.patch(path, json={"description": "New", "environments": ["eu", "us"]})

        assert answer.status_code == 200
        assert answer.json["name"] == project.name
        assert answer.json["description"] == "New"
        assert answer.json["environments"] == ["eu", "us"]
        assert answer.json["version"] == 2
        assert answer.json["updated_at"] > answer.json["created_at"]

    def test_leaves_the_version_when_nothing_changes(self, alice, path, project):
        assert alice.patch(path, json={"name": project.name}).json["version"] == 1
        assert alice.patch(path, json={}).json["version"] == 1

    def test_keeps_the_moment_of_archiving(self, alice, path):
        first = alice.patch(path, json={"archived": True}).json["archived_at"]

        assert alice.patch(path, json={"archived": True}).json["archived_at"] == first
        assert alice.patch(path, json={"archived": False}).json["archived_at"] is None

    @pytest.mark.parametrize("name", ["name", "slug", "description", "environments", "archived"])
    def test_takes_no_null(self, alice, path, name):
        assert alice.patch(path, json={name: None}).status_code == 422

    def test_refuses_a_taken_slug_and_changes_nothing(self, alice, path, make_project):
        taken = make_project()

        answer = alice.patch(path, json={"slug": taken.slug, "name": "New"})

        assert answer.status_code == 409
        assert alice.get(path).json["version"] == 1

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    def test_hides_the_project_of_others(self, alice, stranger, path, method):
        answer = stranger.call(method, path, json={"name": "Mine", "slug": "mine"})

        assert answer.status_code == 404
        assert alice.get(path).json["version"] == 1

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    def test_is_not_for_viewers(self, bob, path, method):
        answer = bob.call(method, path, json={"name": "Mine", "slug": "mine"})

        assert answer.status_code == 403


class TestDeleteProject:
    def test_leaves_nothing_to_see(self, alice, path, project):
        assert alice.delete(path).status_code == 204

        for method in ("GET", "PUT", "PATCH", "DELETE"):
            answer = alice.call(method, path, json={"name": "Back", "slug": "back"})
            assert answer.status_code == 404
        assert names(alice) == []

    def test_keeps_the_row_for_what_was_measured(self, alice, path, project, as_system):
        alice.delete(path)

        read = "SELECT name, deleted_at IS NOT NULL FROM projects WHERE id = :id"
        assert as_system(read, id=project.id) == [(project.name, True)]

    def test_is_for_admins(self, carol, admin, path):
        answer = carol.delete(path)

        assert answer.status_code == 403
        assert "projects:delete" in answer.json["detail"]
        assert admin.delete(path).status_code == 204
