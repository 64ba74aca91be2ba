import pytest
from flask import g

from app.auth.authenticator import authenticate
from app.kit.errors import InvalidPayload, NotFound
from app.kit.ids import new_id
from app.kit.tenancy import leave_organization
from app.projects.access import project_of_request


@pytest.fixture
def acting(app):
    """Be in a request of somebody."""
    contexts = []

    def enter(caller):
        context = app.test_request_context()
        context.push()
        contexts.append(context)
        g.actor = authenticate(caller.token)

    yield enter
    for context in contexts:
        context.pop()
    leave_organization()


class TestProjectOfRequest:
    def test_is_that_of_the_ingest_key(self, acting, ingest_key, project):
        acting(ingest_key)

        assert project_of_request().id == project.id
        assert project_of_request(project.id).name == project.name
        assert project_of_request().organization_id == project.organization_id

    def test_is_no_other_for_an_ingest_key(self, acting, ingest_key, make_project, stranger):
        own, foreign = make_project(), make_project(owner=stranger)
        acting(ingest_key)

        for project_id in (own.id, foreign.id, new_id()):
            with pytest.raises(NotFound):
                project_of_request(project_id)

    def test_is_the_named_one_for_a_person(self, acting, bob, project):
        acting(bob)

        assert project_of_request(project.id).name == project.name

    def test_must_be_named_by_a_person(self, acting, alice):
        acting(alice)

        with pytest.raises(InvalidPayload) as refusal:
            project_of_request()
        assert [fault.pointer for fault in refusal.value.faults] == ["/project_id"]

    def test_is_never_that_of_others(self, acting, alice, stranger, make_project):
        foreign = make_project(owner=stranger)
        acting(alice)

        for project_id in (foreign.id, new_id()):
            with pytest.raises(NotFound):
                project_of_request(project_id)

    def test_is_none_that_is_deleted(self, acting, alice, project):
        alice.delete(f"/api/v1/projects/{project.id}")
        acting(alice)

        with pytest.raises(NotFound):
            project_of_request(project.id)
