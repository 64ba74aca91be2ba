"""What a linter cannot state about the house: see the architecture page and docs/decisions."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine

from app import tasks
from app.kit.endpoint import REGISTRY, Endpoint
from app.kit.openapi import openapi_document
from app.kit.rate_limits import RateClass

ROOT = Path(__file__).parents[1]
APP = ROOT / "app"
FEATURES = ("organizations", "auth", "projects", "audit", "api_gateway")
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


def sources(*parts: str) -> Iterator[Path]:
    for path in sorted(APP.joinpath(*parts).rglob("*.py")):
        if "migrations" not in path.parts:
            yield path


def modules_of(feature: str, role: str) -> Iterator[Path]:
    folder = APP / feature
    single, package = folder / f"{role}.py", folder / role
    if single.exists():
        yield single
    if package.is_dir():
        yield from sorted(package.glob("*.py"))


def calls_of(path: Path, name: str) -> list[int]:
    tree = ast.parse(path.read_text())
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == name
    ]


@pytest.fixture
def endpoints(app) -> list[Endpoint]:
    return list(REGISTRY.endpoints.values())


class TestTransactions:
    def test_only_the_edge_commits(self):
        allowed = {"kit/transactions.py"}
        offenders = [
            f"{path.relative_to(APP)}:{line}"
            for path in sources()
            for line in calls_of(path, "commit")
            if path.relative_to(APP).as_posix() not in allowed
            and not path.is_relative_to(APP / "kit" / "jobs")
        ]

        assert offenders == []

    def test_nobody_sends_a_task_past_the_outbox(self):
        offenders = [
            f"{path.relative_to(APP)}:{line}"
            for path in sources()
            for name in ("delay", "apply_async", "send_task")
            for line in calls_of(path, name)
            if not path.is_relative_to(APP / "kit" / "jobs")
        ]

        assert offenders == []


class TestRoutes:
    def test_declare_a_scope_or_say_why_anybody_may_call(self, endpoints):
        undeclared = [e.name for e in endpoints if (e.scope is None) == (e.public is None)]

        assert undeclared == []

    def test_declare_a_rate_class(self, endpoints):
        assert [e.name for e in endpoints if not isinstance(e.rate, RateClass)] == []

    def test_that_write_name_their_audit_event_or_say_why_none(self, endpoints):
        undeclared = [
            e.name
            for e in endpoints
            if e.method in WRITES and (e.audit is None) == (e.unaudited is None)
        ]

        assert undeclared == []

    def test_that_list_answer_pages(self, endpoints):
        unpaged = [
            e.name
            for e in endpoints
            if e.name.split(".")[1].startswith("list_")
            and not {"items", "next_cursor"} <= set(e.answers[200].model_fields)
        ]

        assert unpaged == []

    def test_are_all_declared(self, app):
        undeclared = {
            rule.endpoint
            for rule in app.url_map.iter_rules()
            if rule.endpoint not in REGISTRY.endpoints and rule.endpoint != "static"
        }

        assert undeclared == set()

    def test_are_described_by_the_committed_document(self, app):
        committed = json.loads((ROOT / "docs" / "openapi.json").read_text())

        with app.app_context():
            assert openapi_document(app) == committed, "run `make openapi` and read the diff"


class TestTasks:
    def test_are_named_after_their_feature(self, app):
        from app.extensions import celery

        features = {*FEATURES, "kit"}
        ours = [name for name, task in celery.tasks.items() if task.__module__.startswith("app.")]

        assert [name for name in ours if name.split(".")[0] not in features] == []

    def test_on_the_schedule_exist(self, app):
        from app.extensions import celery

        assert set(tasks.SCHEDULE) <= set(celery.tasks)


class TestMigrations:
    def test_have_one_head(self):
        script = ScriptDirectory(str(APP / "migrations"))

        assert len(script.get_heads()) == 1

    def test_never_import_the_application(self):
        offenders = [
            path.name
            for path in (APP / "migrations" / "versions").glob("*.py")
            if "from app" in path.read_text() or "import app" in path.read_text()
        ]

        assert offenders == []

    def test_make_what_the_models_say(self, app, database_url):
        from app.extensions import Model

        def is_ours(item, name, kind, reflected, compare_to):
            del reflected, compare_to
            if kind == "table":
                return not item.info.get("is_guard_view")
            return kind != "index" or not name.startswith("_hyper")

        engine = create_engine(database_url, poolclass=NullPool)
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "include_object": is_ours,
                    "compare_type": True,
                    "version_table": "alembic_version",
                },
            )
            differences = [
                difference
                for difference in compare_metadata(context, Model.metadata)
                if not _is_unmapped(difference)
            ]

        assert differences == []


# Tables that only SQL touches have no mapped class.
UNMAPPED = {
    "api_rollup_groups", "api_rollup_deltas", "api_rollup_15m", "api_rollup_1h", "api_rollup_1d",
    "api_rollup_7d",
}  # fmt: skip


def _is_unmapped(difference) -> bool:
    if not isinstance(difference, tuple):
        return False
    kind, item = difference[0], difference[1]
    if kind == "remove_table":
        return item.name in UNMAPPED
    return kind == "remove_index" and item.table.name in UNMAPPED


class TestFunctions:
    @pytest.mark.parametrize("role", ["service", "queries"])
    @pytest.mark.parametrize("feature", FEATURES)
    def test_of_services_and_queries_take_keywords_only(self, feature, role):
        offenders = []
        for path in modules_of(feature, role):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            module = import_module(name)
            for function_name, function in inspect.getmembers(module, inspect.isfunction):
                if function.__module__ != name or function_name.startswith("_"):
                    continue
                kinds = [p.kind for p in inspect.signature(function).parameters.values()]
                if any(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds[1:]):
                    offenders.append(f"{name}.{function_name}")

        assert offenders == []
