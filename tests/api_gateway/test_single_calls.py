"""Single calls that arrive together: each counts once and each is answered for itself."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

import psycopg
import pytest

from app.api_gateway.service import single_calls
from app.api_gateway.service.single_calls import SingleCalls
from app.kit.tenancy import organization_scope

REQUESTS = "/api/v1/api-gateway/requests"


def call(number, **fields):
    return {
        "id": f"s{number}",
        "started_at": datetime.now(UTC).isoformat(),
        "provider": "openai",
        "request_model": "gpt-4o",
        "usage": {"input_tokens": 1000 + number, "output_tokens": 10},
    } | fields


class Line:
    """Calls of one project through one SingleCalls, each from a thread of its own."""

    def __init__(self, app, project):
        self.app, self.project, self.singles = app, project, SingleCalls()

    def log(self, item):
        with self.app.app_context(), organization_scope(self.project.organization_id):
            return self.singles.log(
                organization_id=self.project.organization_id,
                project_id=self.project.id,
                item=item,
                now=datetime.now(UTC),
                retention=timedelta(days=90),
            )


@pytest.fixture
def line(app, project):
    return Line(app, project)


@pytest.fixture
def held(monkeypatch):
    """The first write waits for `held.set()`, so that the others line up behind it."""
    gate, sizes = Event(), []
    written = SingleCalls._written

    def slow(group, **arguments):
        sizes.append(len(group))
        if len(sizes) == 1:
            gate.wait(20)
        return written(group, **arguments)

    monkeypatch.setattr(SingleCalls, "_written", staticmethod(slow))
    gate.sizes = sizes
    return gate


def logged_together(line, held, items):
    with ThreadPoolExecutor(len(items)) as pool:
        futures = [pool.submit(line.log, items[0])]
        while not held.sizes:
            pass
        futures += [pool.submit(line.log, item) for item in items[1:]]
        while len(line.singles._lines[line.project.id]) < len(items) - 1:
            pass
        held.set()
        return futures


class TestLogSingleCalls:
    def test_writes_those_that_waited_in_one_transaction(self, line, held, alice, project):
        items = [call(number) for number in range(6)]

        batches = [future.result() for future in logged_together(line, held, items)]

        assert held.sizes == [1, 5]
        assert [[c.id for c in batch.created] for batch in batches] == [[i["id"]] for i in items]
        cost = alice.get(f"/api/v1/api-gateway/analytics/cost?project_id={project.id}").json
        assert cost["totals"]["requests"] == 6
        assert cost["totals"]["input_tokens"] == sum(i["usage"]["input_tokens"] for i in items)

    def test_tells_each_what_became_of_its_own_call(self, line, held):
        same = call(1)
        items = [call(0), same, dict(same), call(1, started_at=same["started_at"], attempt=2)]
        items.append(call(3, usage={"input_tokens": 1, "cache_read_input_tokens": 2}))

        first, *rest = [future.result() for future in logged_together(line, held, items)]

        assert len(first.created) == 1
        kinds = ["created", "duplicates", "conflicts", "invalid"]
        seen = [next(kind for kind in kinds if getattr(batch, kind)) for batch in rest]
        assert sorted(seen[:3]) in (
            ["conflicts", "created", "duplicates"],
            ["conflicts", "conflicts", "created"],
        )
        assert seen[3] == "invalid"

    def test_writes_each_alone_when_one_of_them_breaks_the_statement(self, line, held, monkeypatch):
        written = SingleCalls._written

        def broken(group, **arguments):
            if any(ticket.item["id"] == "s2" for ticket in group):
                raise ValueError("a fault of ours")
            return written(group, **arguments)

        monkeypatch.setattr(SingleCalls, "_written", staticmethod(broken))

        futures = logged_together(line, held, [call(number) for number in range(4)])

        assert [f.exception() is None for f in futures] == [True, True, False, True]

    def test_tells_the_whole_line_when_the_database_is_away(self, line, held, monkeypatch):
        written = SingleCalls._written

        def away(group, **arguments):
            written(group, **arguments)
            raise psycopg.OperationalError("the database is away")

        monkeypatch.setattr(SingleCalls, "_written", staticmethod(away))

        futures = logged_together(line, held, [call(number) for number in range(4)])

        assert all(isinstance(f.exception(), psycopg.OperationalError) for f in futures)
        assert line.singles._lines == {}

    def test_gives_up_a_place_in_a_line_that_does_not_move(self, line, held, monkeypatch):
        monkeypatch.setattr(single_calls, "LONGEST_WAIT_S", 0.1)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(line.log, call(0))
            while not held.sizes:
                pass

            second = pool.submit(line.log, call(1))

            assert second.exception().status == 503
            held.set()
            assert len(first.result().created) == 1
        assert line.singles._lines == {}


class TestLogRequests:
    def test_answers_index_0_to_everybody(self, ingest_key):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: ingest_key.post(REQUESTS, json=call(n)), range(40)))

        assert {answer.status_code for answer in answers} == {201}
        assert {answer.json["index"] for answer in answers} == {0}
        assert {answer.json["id"] for answer in answers} == {f"s{n}" for n in range(40)}
