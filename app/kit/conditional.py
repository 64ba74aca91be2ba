"""Conditional requests (RFC 9110 section 13): 304 for what the caller has, 412 for what was changed since."""

from __future__ import annotations

import functools
from collections.abc import Callable

from flask import Response, request

from app.kit.errors import BadRequest
from app.kit.etags import Precondition, is_known, tag_of_content, tag_of_version

Handler = Callable[..., Response]


def with_version(response: Response, version: int | None) -> Response:
    """Return the answer with the tag of this version, if there is one."""
    if version is not None:
        response.headers["ETag"] = tag_of_version(version)
    return response


def tagged(handler: Handler) -> Handler:
    """Return the handler of one object's GET so that its answer has a tag, and is 304 when known."""

    @functools.wraps(handler)
    def show(**arguments: object) -> Response:
        response = handler(**arguments)
        if response.status_code != 200:
            return response
        tag = response.headers.setdefault("ETag", tag_of_content(response.get_data()))
        if not is_known(tag, request.headers.get("If-None-Match")):
            return response
        return Response(status=304, headers={"ETag": tag})

    return show


def unversioned(handler: Handler) -> Handler:
    """Return the handler so that it refuses `If-Match`: what it cannot check it does not ignore."""

    @functools.wraps(handler)
    def change(**arguments: object) -> Response:
        if "If-Match" in request.headers:
            raise BadRequest("this route knows no versions", code="if_match_unsupported")
        return handler(**arguments)

    return change


def if_match() -> Precondition | None:
    """Return what `If-Match` demands of the object, None without the header. Raises BadRequest."""
    return Precondition.of(request.headers.get("If-Match"))
