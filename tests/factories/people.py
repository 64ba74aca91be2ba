"""People as tests know them: each with a client that sends his token, in an organization of his own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.auth.passwords import PasswordHasher
from app.extensions import db
from app.kit.tenancy import organization_scope
from app.organizations.roles import Role
from app.organizations.service import add_member, add_user

API = "/api/v1"


@dataclass
class Caller:
    """Somebody who calls the API with one credential."""

    client: FlaskClient
    token: str

    def call(self, method: str, path: str, **arguments: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", **arguments.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **arguments)

    def get(self, path: str, **arguments: Any) -> TestResponse:
        return self.call("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> TestResponse:
        return self.call("POST", path, **arguments)

    def put(self, path: str, **arguments: Any) -> TestResponse:
        return self.call("PUT", path, **arguments)

    def patch(self, path: str, **arguments: Any) -> TestResponse:
        return self.call("PATCH", path, **arguments)

    def delete(self, path: str, **arguments: Any) -> TestResponse:
        return self.call("DELETE", path, **arguments)


@dataclass
class Person(Caller):
    """A signed-in member of an organization."""

    email: str
    password: str
    user_id: UUID
    organization_id: UUID
    refresh_token: str

    @property
    def session_id(self) -> UUID:
        claims = jwt.decode(self.token, options={"verify_signature": False})
        return UUID(claims["sid"])


@dataclass(frozen=True)
class MadeProject:
    """A project that a test made."""

    id: UUID
    name: str
    slug: str
    organization_id: UUID


def register(app: Flask, *, name: str = "Alice", organization_name: str = "Acme") -> Person:
    """Return a new person, owner of a new organization, signed in through the API."""
    email, password = new_email(name), new_password()
    client = app.test_client()
    answer = client.post(
        f"{API}/auth/register",
        json={
            "email": email,
            "password": password,
            "name": name,
            "organization_name": organization_name,
        },
    )
    assert answer.status_code == 201, answer.text
    return _person(client, answer.json, password=password)


def join(app: Flask, organization_id: UUID, *, role: Role, name: str = "Bob") -> Person:
    """Return a new person with this role in an existing organization, signed in through the API."""
    email, password = new_email(name), new_password()
    hasher = PasswordHasher.of(app.extensions["devguard"])
    now = datetime.now(UTC)
    with app.app_context(), organization_scope(organization_id):
        user = add_user(email=email, name=name, password_hash=hasher.hashed(password), now=now)
        add_member(user_id=user.id, role=role, now=now)
        db.session.commit()
    return sign_in(app, email=email, password=password)


def sign_in(app: Flask, *, email: str, password: str) -> Person:
    """Return a person in a new session of his."""
    client = app.test_client()
    answer = client.post(f"{API}/auth/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    return _person(client, answer.json, password=password)


def make_key(owner: Caller, *, app: Flask, **fields: Any) -> Caller:
    """Return a caller with a new API key that the owner made; `key_id` is on the caller."""
    answer = owner.post(f"{API}/api-keys", json={"name": "key", **fields})
    assert answer.status_code == 201, answer.text
    return KeyCaller(app.test_client(), answer.json["key"], UUID(answer.json["id"]))


@dataclass
class KeyCaller(Caller):
    """A program that calls the API with an API key."""

    key_id: UUID


def make_project(owner: Person, *, name: str = "Checkout", **fields: Any) -> MadeProject:
    """Return a new project of the owner's organization."""
    slug = f"p-{secrets.token_hex(4)}"
    answer = owner.post(f"{API}/projects", json={"name": name, "slug": slug, **fields})
    assert answer.status_code == 201, answer.text
    made = answer.json
    return MadeProject(UUID(made["id"]), made["name"], made["slug"], owner.organization_id)


def new_email(name: str) -> str:
    return f"{name.lower()}.{secrets.token_hex(6)}@example.com"


def new_password() -> str:
    return f"correct horse {secrets.token_hex(4)}"


def _person(client: FlaskClient, answer: Any, *, password: str) -> Person:
    return Person(
        client=client,
        token=answer["access_token"],
        email=answer["user"]["email"],
        password=password,
        user_id=UUID(answer["user"]["id"]),
        organization_id=UUID(answer["organization"]["id"]),
        refresh_token=answer["refresh_token"],
    )
