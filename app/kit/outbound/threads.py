"""Work beside gevent's event loop. Pure of the product."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def off_the_loop(work: Callable[..., Result], *arguments: object) -> Result:
    """Return work(*arguments), computed in gevent's thread pool where gevent runs this process."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return work(*arguments)
    import gevent  # noqa: PLC0415 - only where it is in use already

    result: Result = gevent.get_hub().threadpool.apply(work, arguments)
    return result
