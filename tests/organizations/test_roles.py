from itertools import pairwise

import pytest

from app.kit.endpoint import REGISTRY
from app.organizations.roles import (
    ACCOUNT_WRITE,
    ALL_SCOPES,
    INGEST_SCOPES,
    KEY_SCOPES,
    SERVICE_SCOPES,
    Role,
    scopes_of_role,
)


class TestScopesOfRole:
    def test_grow_from_role_to_role(self):
        for lower, higher in pairwise(Role):
            assert scopes_of_role(lower) < scopes_of_role(higher)

    def test_let_a_viewer_change_nothing_but_his_account(self):
        writing = {scope for scope in scopes_of_role("viewer") if not scope.endswith(":read")}

        assert writing == {ACCOUNT_WRITE}

    def test_are_those_that_the_routes_ask_for(self, app):
        asked = {spec.scope for spec in REGISTRY.endpoints.values() if spec.scope}

        assert asked <= ALL_SCOPES

    def test_exist_for_known_roles_only(self):
        with pytest.raises(ValueError, match="root"):
            scopes_of_role("root")


class TestKeyScopes:
    def test_hold_no_right_over_the_account(self):
        assert ACCOUNT_WRITE not in KEY_SCOPES
        assert ACCOUNT_WRITE not in SERVICE_SCOPES

    def test_of_a_service_stay_below_an_owners(self):
        assert scopes_of_role("admin") > SERVICE_SCOPES

    def test_of_ingest_are_for_logging_only(self):
        assert {"api_requests:write"} == INGEST_SCOPES
