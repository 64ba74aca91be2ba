"""What second factors and step-up take and answer."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from app.auth.challenges import LONGEST
from app.auth.passwords import LONGEST_PASSWORD
from app.auth.schemas.accounts import LONGEST_DEVICE_TOKEN, TokensView
from app.kit.payload import Moment, Payload, Text, View

SHORTEST_CODE = 6
LONGEST_CODE = 60

Code = Annotated[
    Text,
    Field(
        min_length=SHORTEST_CODE,
        max_length=LONGEST_CODE,
        repr=False,
        description="Six digits of the authenticator app, or a recovery code",
    ),
]


class LoginMfaCreate(Payload):
    """The second step of a login: the challenge of the first one, and a code."""

    challenge: Annotated[Text, Field(max_length=LONGEST, repr=False)]
    code: Code
    device_token: Annotated[Text | None, Field(max_length=LONGEST_DEVICE_TOKEN, repr=False)] = None


class TotpConfirmation(Payload):
    """A code of the app that was offered."""

    code: Code


class StepUpCreate(Payload):
    """One proof of who one is."""

    password: Annotated[Text | None, Field(max_length=LONGEST_PASSWORD, repr=False)] = None
    code: Annotated[
        Text | None, Field(min_length=SHORTEST_CODE, max_length=LONGEST_CODE, repr=False)
    ] = None

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if (self.password is None) == (self.code is None):
            raise ValueError("send either `password` or `code`")
        return self


class MfaPolicy(Payload):
    """Whether members need a second factor."""

    mfa_required: bool


class MfaPolicyView(View):
    """Whether members need a second factor."""

    mfa_required: bool


class MfaView(View):
    """One's second factor."""

    totp_enabled: bool
    enabled_at: Moment | None
    recovery_codes_left: int
    required: bool


class TotpOfferView(View):
    """A new secret, shown this once: scan the image, or type the secret."""

    secret: str
    otpauth_uri: str
    qr_svg: str


class RecoveryCodesView(View):
    """Codes that each stand in once for the app; shown this once."""

    recovery_codes: list[str]


class MfaEnabledView(TokensView):
    """New credentials of this session, and the recovery codes, shown this once."""

    recovery_codes: list[str]
