import threading

import pytest

from app.kit.errors import BadRequest, PreconditionFailed
from app.kit.etags import Precondition, is_known, tag_of_content, tag_of_version
from app.kit.ids import new_id
from tests.factories import people

PROJECTS = "/api/v1/projects"


@pytest.fixture
def path(project):
    return f"{PROJECTS}/{project.id}"


class TestGetOfOneObject:
    def test_has_a_strong_tag_of_its_version(self, alice, path):
        first = alice.get(path).headers["ETag"]
        alice.patch(path, json={"description": "new"})
        second = alice.get(path).headers["ETag"]

        assert (first, second) == ('"v1"', '"v2"')

    def test_has_the_same_tag_for_everybody(self, app, alice, bob, path):
        key = people.make_key(alice, app=app, kind="service", scopes=["projects:read"])

        assert {caller.get(path).headers["ETag"] for caller in (alice, bob, key)} == {'"v1"'}

    def test_has_a_tag_of_its_content_where_no_version_is_counted(self, alice, bob):
        provider_id = alice.get("/api/v1/api-gateway/providers").json["items"][0]["id"]
        path = f"/api/v1/api-gateway/providers/{provider_id}"

        tags = {caller.get(path).headers["ETag"] for caller in (alice, alice, bob)}

        (tag,) = tags
        assert bob.get(path, headers={"If-None-Match": tag}).status_code == 304

    @pytest.mark.parametrize("known", ['"v1"', 'W/"v1"', '"x", "v1"', "*"])
    def test_is_304_when_the_caller_has_it(self, alice, path, known):
        answer = alice.get(path, headers={"If-None-Match": known})

        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == '"v1"'
        assert "Content-Type" not in answer.headers or not answer.data

    @pytest.mark.parametrize("known", ['"v2"', '"V1"', '""'])
    def test_is_whole_when_he_has_not(self, alice, path, known):
        assert alice.get(path, headers={"If-None-Match": known}).status_code == 200

    def test_of_others_is_404_whatever_the_tag(self, stranger, path):
        assert stranger.get(path, headers={"If-None-Match": '"v1"'}).status_code == 404

    def test_refuses_a_malformed_tag(self, alice, path):
        answer = alice.get(path, headers={"If-None-Match": "v1"})

        assert (answer.status_code, answer.json["code"]) == (400, "malformed_tags")

    def test_of_lists_has_none(self, alice, project):
        assert "ETag" not in alice.get(PROJECTS).headers


class TestChange:
    @pytest.mark.parametrize("seen", ['"v1"', '"v7", "v1"', "*"])
    def test_of_what_one_saw_is_done(self, alice, path, seen):
        answer = alice.patch(path, json={"name": "New"}, headers={"If-Match": seen})

        assert (answer.status_code, answer.headers["ETag"]) == (200, '"v2"')

    @pytest.mark.parametrize("seen", ['"v1"', 'W/"v2"', '"v3"'])
    @pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
    def test_of_what_was_changed_since_is_refused(self, alice, path, method, seen):
        alice.patch(path, json={"name": "Newer"})
        form = {} if method == "DELETE" else {"json": {"name": "Lost", "slug": "lost"}}

        answer = alice.call(method, path, headers={"If-Match": seen}, **form)

        assert (answer.status_code, answer.json["code"]) == (412, "precondition_failed")
        assert alice.get(path).json["name"] == "Newer"

    def test_deletes_what_one_saw(self, alice, path):
        assert alice.delete(path, headers={"If-Match": '"v1"'}).status_code == 204

    def test_without_a_precondition_is_done(self, alice, path):
        assert alice.patch(path, json={"name": "New"}).status_code == 200

    def test_of_others_is_404_not_412(self, stranger, path):
        for seen in ('"v1"', '"v9"'):
            assert stranger.delete(path, headers={"If-Match": seen}).status_code == 404

    def test_of_one_version_by_many_is_done_once(self, app, alice, path):
        statuses = []

        def send(name):
            caller = people.Caller(app.test_client(), alice.token)
            answer = caller.patch(path, json={"name": name}, headers={"If-Match": '"v1"'})
            statuses.append(answer.status_code)

        senders = [threading.Thread(target=send, args=(f"n{place}",)) for place in range(6)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()

        assert sorted(statuses) == [200, 412, 412, 412, 412, 412]
        assert alice.get(path).json["version"] == 2

    def test_where_no_version_is_known_is_refused(self, alice):
        answer = alice.delete(f"/api/v1/api-keys/{new_id()}", headers={"If-Match": '"v1"'})

        assert (answer.status_code, answer.json["code"]) == (400, "if_match_unsupported")

    def test_made_by_post_names_the_first_version(self, alice):
        assert alice.post(PROJECTS, json={"name": "Shop"}).headers["ETag"] == '"v1"'


class TestPrecondition:
    def test_without_a_header_is_none(self):
        assert Precondition.of(None) is None

    def test_wants_one_of_its_tags(self):
        Precondition.of('"v1","v2"').check(2)
        with pytest.raises(PreconditionFailed):
            Precondition.of('"v1"').check(2)

    @pytest.mark.parametrize("header", ["", "v1", '"v1', '"v1" "v2"', '"v1",', "*, *", '"a\tb"'])
    def test_is_well_formed(self, header):
        with pytest.raises(BadRequest):
            Precondition.of(header)


class TestTags:
    def test_tell_contents_apart(self):
        assert tag_of_content(b"a") != tag_of_content(b"b")
        assert is_known(tag_of_version(3), '"v3"')
        assert not is_known(tag_of_version(3), None)
