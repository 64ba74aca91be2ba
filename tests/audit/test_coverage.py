"""Every route that declares an audit event leaves a row with that event."""

import pytest

from app.audit.events import AuditEvent
from app.kit.endpoint import REGISTRY
from tests.factories import people
from tests.factories.factor import Factor

AUTH = "/api/v1/auth"
IDENTITY = ("auth", "api_keys", "security", "projects")


def _register(scene):
    person = people.register(scene.app)
    return person.organization_id


def _login(scene):
    people.sign_in(scene.app, email=scene.alice.email, password=scene.alice.password)


def _logout(scene):
    people.sign_in(scene.app, email=scene.alice.email, password=scene.alice.password).post(
        f"{AUTH}/logout"
    )


def _change_password(scene):
    form = {"current_password": scene.alice.password, "new_password": "another long one"}
    assert scene.alice.post(f"{AUTH}/change-password", json=form).status_code == 200


def _again(scene):
    return people.sign_in(scene.app, email=scene.alice.email, password=scene.alice.password)


def _delete_session(scene):
    path = f"{AUTH}/sessions/{_again(scene).session_id}"
    assert scene.alice.delete(path).status_code == 204


def _delete_sessions(scene):
    _again(scene)
    assert scene.alice.delete(f"{AUTH}/sessions").status_code == 204


def _enrol(scene):
    return Factor.enrolled(scene.app, scene.alice)


def _login_by_code(scene):
    factor = _enrol(scene)
    assert factor.sign_in(factor.codes[0]).status_code == 200


def _disable_totp(scene):
    assert _enrol(scene).person.post(f"{AUTH}/mfa/totp/disable").status_code == 200


def _renew_recovery_codes(scene):
    assert _enrol(scene).person.post(f"{AUTH}/mfa/recovery-codes").status_code == 201


def _replace_mfa_policy(scene):
    form = {"mfa_required": False}
    assert scene.alice.put(f"{AUTH}/mfa/policy", json=form).status_code == 200


def _step_up(scene):
    form = {"password": scene.alice.password}
    assert scene.alice.post(f"{AUTH}/step-up", json=form).status_code == 204


def _create_key(scene):
    return people.make_key(scene.alice, app=scene.app, kind="personal").key_id


def _delete_key(scene):
    assert scene.alice.delete(f"/api/v1/api-keys/{_create_key(scene)}").status_code == 204


def _update_key(scene):
    path = f"/api/v1/api-keys/{_create_key(scene)}"
    assert scene.alice.patch(path, json={"name": "new"}).status_code == 200


def _rotate_key(scene):
    path = f"/api/v1/api-keys/{_create_key(scene)}/rotate"
    assert scene.alice.post(path, json={}).status_code == 201


def _report_leak(scene):
    token = people.make_key(scene.alice, app=scene.app, kind="personal").token
    form = {"token": token}
    client = scene.app.test_client()
    assert client.post("/api/v1/security/token-leaks", json=form).status_code == 202


def _create_project(scene):
    return f"/api/v1/projects/{people.make_project(scene.alice).id}"


def _replace_project(scene):
    form = {"name": "New", "slug": "new"}
    assert scene.alice.put(_create_project(scene), json=form).status_code == 200


def _update_project(scene):
    assert scene.alice.patch(_create_project(scene), json={"name": "New"}).status_code == 200


def _delete_project(scene):
    assert scene.alice.delete(_create_project(scene)).status_code == 204


DEEDS = {
    "auth.register": _register,
    "auth.login": _login,
    "auth.logout": _logout,
    "auth.delete_session": _delete_session,
    "auth.delete_sessions": _delete_sessions,
    "auth.login_by_code": _login_by_code,
    "auth.confirm_totp": _enrol,
    "auth.disable_totp": _disable_totp,
    "auth.create_recovery_codes": _renew_recovery_codes,
    "auth.replace_mfa_policy": _replace_mfa_policy,
    "auth.create_step_up": _step_up,
    "auth.change_password": _change_password,
    "api_keys.create_api_key": _create_key,
    "api_keys.delete_api_key": _delete_key,
    "api_keys.update_api_key": _update_key,
    "api_keys.rotate_api_key": _rotate_key,
    "security.create_token_leak": _report_leak,
    "projects.create_project": _create_project,
    "projects.replace_project": _replace_project,
    "projects.update_project": _update_project,
    "projects.delete_project": _delete_project,
}


class Scene:
    def __init__(self, app, alice):
        self.app = app
        self.alice = alice


class TestAuditedRoutes:
    def test_are_all_in_the_catalogue(self, app):
        declared = {spec.audit for spec in REGISTRY.endpoints.values() if spec.audit}

        assert declared <= {event.value for event in AuditEvent}

    def test_are_all_tried_here(self, app):
        declared = {
            name for name, spec in REGISTRY.endpoints.items() if spec.audit and spec.tag in IDENTITY
        }

        assert declared == set(DEEDS)

    @pytest.mark.parametrize("name", DEEDS)
    def test_leave_a_row_with_their_event(self, app, alice, as_system, name):
        event = REGISTRY.endpoints[name].audit
        count = "SELECT count(*) FROM audit_logs WHERE event = :event AND organization_id = :id"
        values = {"event": event, "id": alice.organization_id}
        ((before,),) = as_system(count, **values)

        made = DEEDS[name](Scene(app, alice))

        if name == "auth.register":
            values["id"], before = made, 0
        ((after,),) = as_system(count, **values)
        assert after == before + 1
