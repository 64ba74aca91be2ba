"""The arguments of a query string, as text, before a model judges them."""

from __future__ import annotations

import functools
from typing import Any, get_args, get_origin
from urllib.parse import urlencode

from flask import request

from app.kit.errors import Fault, InvalidPayload
from app.kit.payload import LONGEST_POINTER, MOST_FAULTS, QueryArguments


def next_link(cursor: str) -> str:
    """Return the `Link` to the page behind this one: the same request with another cursor."""
    arguments = [pair for pair in request.args.items(multi=True) if pair[0] != "cursor"]
    target = f"{request.path}?{urlencode([*arguments, ('cursor', cursor)])}"
    return f'<{target}>; rel="next"'


def refuse_arguments() -> None:
    """Raise InvalidPayload when there is any argument: the route takes none."""
    faults = [
        Fault(f"/{name}"[:LONGEST_POINTER], "extra_forbidden", "is not an argument of this route")
        for name in request.args
    ]
    if faults:
        raise InvalidPayload("the query breaks the rules", faults=faults[:MOST_FAULTS])


def values_of(model: type[QueryArguments]) -> dict[str, Any]:
    """Return what was given, lists for list arguments. Raises InvalidPayload for a repeated single one."""
    lists = _list_arguments(model)
    given = dict(request.args.lists())
    faults = [
        Fault(f"/{name}"[:LONGEST_POINTER], "repeated_name", "is given more than once")
        for name, values in given.items()
        if len(values) > 1 and name not in lists
    ]
    if faults:
        raise InvalidPayload("the query breaks the rules", faults=faults[:MOST_FAULTS])
    return {name: values if name in lists else values[0] for name, values in given.items()}


@functools.cache
def _list_arguments(model: type[QueryArguments]) -> frozenset[str]:
    return frozenset(
        info.alias or name for name, info in model.model_fields.items() if _is_list(info.annotation)
    )


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return origin is list or any(_is_list(part) for part in get_args(annotation))
