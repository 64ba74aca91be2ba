"""An authenticator app as a person holds it: its secret, the codes it shows, his recovery codes."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from flask import Flask
from werkzeug.test import TestResponse

from tests.factories.people import Person

AUTH = "/api/v1/auth"


@dataclass
class Factor:
    """The app of `person`, who is in the session that went on after the enrolment."""

    app: Flask
    person: Person
    secret: str
    codes: list[str]

    @classmethod
    def enrolled(cls, app: Flask, person: Person) -> Factor:
        """Return the app of a person who enrolled it just now; the code of this moment is used."""
        offer = person.post(f"{AUTH}/mfa/totp")
        assert offer.status_code == 201, offer.text
        secret = offer.json["secret"]
        answer = person.post(f"{AUTH}/mfa/totp/confirm", json={"code": code_of(secret)})
        assert answer.status_code == 200, answer.text
        tokens = {
            "token": answer.json["access_token"],
            "refresh_token": answer.json["refresh_token"],
        }
        return cls(app, replace(person, **tokens), secret, answer.json["recovery_codes"])

    def code(self, *, steps: int = 0) -> str:
        return code_of(self.secret, steps=steps)

    def challenge(self, **fields: Any) -> str:
        """Return the challenge of a login with the right password."""
        form = {"email": self.person.email, "password": self.person.password, **fields}
        answer = self.app.test_client().post(f"{AUTH}/login", json=form)
        assert answer.json["code"] == "mfa_required", answer.text
        return str(answer.json["challenge"])

    def sign_in(self, code: str, *, challenge: str | None = None, **fields: Any) -> TestResponse:
        """Return the answer to the second step with this code."""
        form = {"challenge": challenge or self.challenge(), "code": code, **fields}
        return self.app.test_client().post(f"{AUTH}/login/mfa", json=form)


def code_of(secret: str, *, steps: int = 0) -> str:
    """Return what an app with this secret shows now, or so many steps of 30 s later."""
    raw = base64.b32decode(secret + "=" * (-len(secret) % 8))
    totp = TOTP(raw, 6, SHA1(), 30, enforce_key_length=False)
    return totp.generate(time.time() + 30 * steps).decode()
