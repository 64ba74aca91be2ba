"""E-mail addresses as we store and compare them. Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

LONGEST_ADDRESS = 254  # RFC 5321 section 4.5.3.1.3, without the angle brackets
# What browsers accept in <input type=email>: https://html.spec.whatwg.org/#valid-e-mail-address
# ASCII only: no two different addresses look or fold alike (an IDN is written as punycode).
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
ADDRESS = re.compile(rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*", re.ASCII)


def normalised_email(text: str) -> str:
    """Return the address without outer blanks, in lower case. Raises ValueError when it is none."""
    email = text.strip()
    if len(email) > LONGEST_ADDRESS or not ADDRESS.fullmatch(email):
        raise ValueError("must be an e-mail address in ASCII, as alice@example.com")
    return email.lower()


Email = Annotated[
    str,
    Field(
        max_length=LONGEST_ADDRESS + 50,
        json_schema_extra={"format": "email", "examples": ["alice@example.com"]},
    ),
    AfterValidator(normalised_email),
]
