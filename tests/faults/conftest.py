"""The whole product, once for each module: it must outlive what one test does to it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.books import Books, Tenant
from tests.faults.product import Product, wait_for

HEALTHY_WITHIN_S = 90.0


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short path, which the servers' own user may enter: sockets have their place in it."""
    path = Path(tempfile.mkdtemp(prefix="dg-")).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def start_product(folder: Path) -> Iterator[Callable[..., Product]]:
    """Start a product with changed settings; ended after the module however its tests went."""
    started: list[Product] = []

    def start(**settings: str) -> Product:
        product = Product(folder / f"home{len(started)}", settings)
        started.append(product)
        return product.start()

    yield start
    for product in started:
        product.end()
        assert not product.processes()


@pytest.fixture(scope="module")
def running(start_product: Callable[..., Product]) -> Product:
    """The product of this module, its limits off: these clients are many and quick."""
    return start_product(RATELIMIT_ENABLED="false")


@pytest.fixture
def product(running: Product) -> Iterator[Product]:
    """The product, healthy before and after the test, which has found no fault of the code."""
    if running.process.poll() is not None:
        running.start()
    known_faults = running.events("web").count("unhandled_error")
    yield running
    wait_for(running.is_ready, HEALTHY_WITHIN_S, what="all parts answer", why=running.output)
    assert running.events("web").count("unhandled_error") == known_faults


@pytest.fixture
def tenant(product: Product) -> Tenant:
    return Tenant.register(product)


@pytest.fixture
def books() -> Books:
    return Books()
