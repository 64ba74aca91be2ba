"""What accounts take and answer."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.auth.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD
from app.kit.payload import Moment, Name, Payload, Text, View
from app.organizations.emails import Email

LONGEST_REFRESH_TOKEN = 200
LONGEST_DEVICE_TOKEN = 200

NewPassword = Annotated[
    Text, Field(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD, repr=False)
]
# No shortest length: an old password may break today's rules and must still be answered.
TypedPassword = Annotated[Text, Field(max_length=LONGEST_PASSWORD, repr=False)]


class RegistrationCreate(Payload):
    """A person who wants an organization of his own."""

    email: Email
    password: NewPassword
    name: Name
    organization_name: Name


class LoginCreate(Payload):
    """Who says he is whom."""

    email: Email
    password: TypedPassword
    device_token: Annotated[
        Text | None,
        Field(
            max_length=LONGEST_DEVICE_TOKEN,
            repr=False,
            description="Of an earlier answer to this device: strangers cannot use up its attempts",
        ),
    ] = None


class RefreshCreate(Payload):
    """The refresh token of the last answer; it works once."""

    refresh_token: Annotated[Text, Field(max_length=LONGEST_REFRESH_TOKEN, repr=False)]


class PasswordChange(Payload):
    """The old password and the new one."""

    current_password: TypedPassword
    new_password: NewPassword


class UserView(View):
    """A person."""

    id: UUID
    email: str
    name: str


class OrganizationView(View):
    """An organization."""

    id: UUID
    name: str


class TokensView(View):
    """The credentials of a session: send the access token, keep the refresh token."""

    access_token: str
    token_type: str
    expires_in_s: int
    refresh_token: str
    refresh_expires_at: Moment


class SignedInView(TokensView):
    """The credentials of a new session, and whose it is."""

    user: UserView
    organization: OrganizationView
    role: str
    device_token: str


class MeView(View):
    """The bearer of this credential; `user` is null for a key that belongs to no person."""

    user: UserView | None
    organization: OrganizationView
    role: str
    scopes: list[str]
