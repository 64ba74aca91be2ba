"""`flask api-requests import`: a file becomes calls, each once, with exact costs, whatever happens meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app.api_gateway.call_files import FileForm, FileFormat, ImportFault
from app.api_gateway.service import imports
from app.api_gateway.service.import_journal import Journal
from app.api_gateway.service.imports import ImportOrder, import_calls
from app.audit.context import acting_as, operator
from app.kit.transactions import transaction
from tests.factories import people

ROOT = Path(__file__).parents[2]
PER_MILLION = Decimal(10) ** 6
MAPPED = [
    "--map", "started_at=TIMESTAMP", "--map", "usage.input_tokens=ContextTokens",
    "--map", "usage.output_tokens=GeneratedTokens",
    "--set", "provider=openai", "--set", "request_model=gpt-4o",
]  # fmt: skip
FORM = FileForm(
    FileFormat.csv,
    {
        "started_at": "TIMESTAMP",
        "usage.input_tokens": "ContextTokens",
        "usage.output_tokens": "GeneratedTokens",
    },
    {"provider": "openai", "request_model": "gpt-4o"},
)
RETENTION = timedelta(days=90)


class Killed(BaseException):
    """What stands for the end of the process in the middle."""


def trace(rows=25, *, start="2023-11-16 18:17:03"):
    """Return a file like the traces of Azure: CRLF, seven decimals, no zone, no last newline."""
    first = datetime.fromisoformat(start)
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for number in range(rows):
        moment = first + timedelta(milliseconds=977 * number, microseconds=number % 7)
        lines.append(f"{moment:%Y-%m-%d %H:%M:%S.%f}9,{4808 - number},{10 + number % 5}")
    return "\r\n".join(lines).encode()


def cost_of(rows):
    """Return what gpt-4o takes for such a trace, summed by ourselves."""
    given = sum(4808 - number for number in range(rows))
    made = sum(10 + number % 5 for number in range(rows))
    return (given * Decimal("2.50") + made * Decimal("10.00")) / PER_MILLION


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(trace())
    return path


@pytest.fixture
def run(app, project):
    """Run the command in Alice's organization."""

    def run_import(*arguments, organization=project.organization_id):
        scope = ["--organization", str(organization)] if organization else []
        command = ["api-requests", "import", *scope, *map(str, arguments)]
        return app.test_cli_runner().invoke(args=command)

    return run_import


@pytest.fixture
def summary_of(run):
    """Run the command and return its summary; it must succeed."""

    def run_for_summary(*arguments):
        result = run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run_for_summary


@pytest.fixture
def totals(alice, project):
    """Return what the analytics say of the project."""

    def read():
        now = datetime.now(UTC)
        window = {"from": now - timedelta(days=60), "to": now + timedelta(minutes=30)}
        query = {name: moment.isoformat() for name, moment in window.items()}
        answer = alice.get(
            "/api/v1/api-gateway/analytics/cost",
            query_string={"project_id": str(project.id), **query},
        )
        assert answer.status_code == 200, answer.text
        return answer.json["totals"]

    return read


@pytest.fixture
def events(as_system, alice):
    """Return the audit events of imports, each with what it says."""

    def read():
        rows = as_system(
            "SELECT actor_kind, actor_label, target_id, after FROM audit_logs WHERE organization_id = :id "
            "AND event = 'api_requests.imported' ORDER BY occurred_at",
            id=alice.organization_id,
        )
        return [(*row[:3], json.loads(row[3])) for row in rows]

    return read


def ndjson(*items):
    return "".join(json.dumps(item) + "\n" for item in items).encode()


def call(**fields):
    return {
        "started_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
        "provider": "openai",
        "request_model": "gpt-4o",
        "usage": {"input_tokens": 1000, "output_tokens": 100},
        **fields,
    }


class TestImport:
    def test_stores_every_row_with_its_exact_cost(self, summary_of, file, totals):
        summary = summary_of(file, *MAPPED, "--shift-to-now")

        assert (summary["created"], summary["duplicate"], summary["refused"]) == (25, 0, 0)
        assert summary["pricing"] == [
            {
                "status": "computed",
                "reason": None,
                "calls": 25,
                "cost": str(cost_of(25).normalize()),
                "currency": "USD",
            }
        ]
        assert totals()["requests"] == 25
        assert Decimal(totals()["cost"]) == cost_of(25)

    def test_counts_once_what_is_imported_twice(self, summary_of, file, tmp_path, totals):
        summary_of(file, *MAPPED, "--shift-to-now")
        renamed = file.rename(tmp_path / "another-name.csv")

        again = summary_of(renamed, *MAPPED, "--shift-to-now", "--batch-size", 7)

        assert (again["created"], again["duplicate"]) == (0, 25)
        assert again["pricing"] == []
        assert Decimal(totals()["cost"]) == cost_of(25)

    def test_imports_as_other_calls_under_another_prefix(self, summary_of, file, totals):
        summary_of(file, *MAPPED, "--shift-to-now")

        summary_of(file, *MAPPED, "--shift-to-now", "--id-prefix", "again-")

        assert totals()["requests"] == 50

    def test_reads_ndjson_of_calls(self, summary_of, tmp_path, alice, project):
        path = tmp_path / "calls.jsonl"
        path.write_bytes(ndjson(call(id="a"), call(attribution={"team": "core"})))

        summary = summary_of(path, "--set", "attribution.environment=prod")

        assert summary["created"] == 2
        listed = alice.get(
            "/api/v1/api-gateway/requests", query_string={"project_id": str(project.id)}
        ).json["items"]
        assert {item["environment"] for item in listed} == {"prod"}
        assert "a" in {item["id"] for item in listed}

    def test_records_one_event_with_what_was_done(self, summary_of, file, project, events):
        summary_of(file, *MAPPED, "--shift-to-now", "--batch-size", 4)

        ((kind, label, target, after),) = events()
        assert (kind, label, target) == (
            "operator",
            "flask api-requests import",
            str(project.id),
        )
        assert (after["file"], after["created"], after["finished"]) == ("trace.csv", 25, True)

    def test_says_in_words_what_it_did(self, run, file):
        result = run(file, *MAPPED, "--shift-to-now")

        assert result.exit_code == 0
        assert "trace.csv -> Checkout (Acme)" in result.stdout
        assert "created              25" in result.stdout
        assert f"computed             25  {cost_of(25).normalize()} USD" in result.stdout
        assert "calls/s" in result.stdout

    def test_says_that_a_model_has_no_price(self, summary_of, file):
        (priced,) = summary_of(
            file, *MAPPED[:-2], "--set", "request_model=none-such", "--shift-to-now"
        )["pricing"]

        assert (priced["status"], priced["reason"]) == ("unpriced", "unknown_model")
        assert priced["cost"] is None


class TestMoveToNow:
    def test_ends_now_and_keeps_every_distance(self, summary_of, file, alice, project):
        began = datetime.now(UTC)

        summary = summary_of(file, *MAPPED, "--shift-to-now")

        last = datetime.fromisoformat(summary["last_started_at"])
        first = datetime.fromisoformat(summary["first_started_at"])
        assert began <= last <= datetime.now(UTC)
        assert last - first == timedelta(milliseconds=977 * 24, microseconds=3)

    def test_moves_by_the_same_amount_whenever_it_is_repeated(self, summary_of, file):
        first = summary_of(file, *MAPPED, "--shift-to-now")

        for options in ([], ["--restart"], ["--dry-run"]):
            again = summary_of(file, *MAPPED, "--shift-to-now", *options)
            assert again["shift_s"] == first["shift_s"]

    def test_is_not_forgotten_by_an_import_without_it(self, run, summary_of, file):
        first = summary_of(file, *MAPPED, "--shift-to-now")
        run(file, *MAPPED)

        again = summary_of(file, *MAPPED, "--shift-to-now")

        assert (again["created"], again["shift_s"]) == (0, first["shift_s"])

    def test_refuses_old_calls_without_it_and_says_what_helps(self, run, file, totals):
        result = run(file, *MAPPED)

        assert result.exit_code == 1
        assert "refused              25" in result.stdout
        assert "line 2: started_at: calls are kept back to" in result.stdout
        assert "and 15 more" in result.stdout
        assert "--shift-to-now moves the whole file" in result.stdout
        assert totals()["requests"] == 0

    def test_needs_a_time_to_go_by(self, run, tmp_path):
        path = tmp_path / "x.csv"
        path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nnever,1,1\n")

        result = run(path, *MAPPED, "--shift-to-now")

        assert result.exit_code == 1
        assert "--shift-to-now: no row has a time that can be read" in result.stderr


class TestRefuseRows:
    def test_stores_all_the_others(self, summary_of, tmp_path, totals):
        rows = trace(6).split(b"\r\n")
        rows[2] = rows[2].replace(b",4807,", b",-1,")
        rows[4] = b"\xff,1,1"
        path = tmp_path / "x.csv"
        path.write_bytes(b"\r\n".join(rows))

        summary = summary_of(path, *MAPPED, "--shift-to-now", "--batch-size", 2)

        assert (summary["created"], summary["refused"]) == (4, 2)
        assert [one["line"] for one in summary["refusals"]] == [3, 5]
        assert summary["refusals"][0]["errors"][0]["field"].startswith("usage.input_tokens")
        assert summary["refused_codes"]["not_utf8"] == 1
        assert totals()["requests"] == 4

    def test_names_a_call_that_is_stored_otherwise(self, run, summary_of, tmp_path):
        path = tmp_path / "x.ndjson"
        one = call(id="a")
        path.write_bytes(ndjson(one))
        summary_of(path)
        path.write_bytes(ndjson({**one, "usage": {"input_tokens": 5}}, call(id="b")))

        result = run(path)

        assert result.exit_code == 0
        assert "line 1: id: a is stored otherwise" in result.stdout

    def test_refuses_parts_that_exceed_their_whole(self, run, tmp_path):
        path = tmp_path / "x.ndjson"
        usage = {"input_tokens": 1, "cache_read_input_tokens": 2}
        path.write_bytes(ndjson(call(), call(usage=usage), call(surprise=1)))

        result = run(path)

        assert "line 2: usage.cache_read_input_tokens: 2 of 1 input tokens" in result.stdout
        assert "line 3: surprise: Extra inputs are not permitted" in result.stdout

    def test_stops_at_the_first_when_asked_to(self, run, tmp_path, totals, events):
        path = tmp_path / "x.ndjson"
        path.write_bytes(ndjson(call(), call(), call(), call(usage={"pages": -1}), call()))

        result = run(path, "--fail-fast", "--batch-size", 2)

        assert result.exit_code == 1
        assert "--fail-fast: line 4: usage.pages" in result.stderr
        assert totals()["requests"] == 2
        assert [(after["created"], after["finished"]) for *_, after in events()] == [(2, False)]

    def test_goes_on_behind_it_without_the_option(self, run, summary_of, tmp_path, totals):
        path = tmp_path / "x.ndjson"
        path.write_bytes(ndjson(call(), call(), call(), call(usage={"pages": -1}), call()))
        run(path, "--fail-fast", "--batch-size", 2)

        summary = summary_of(path, "--batch-size", 2)

        assert summary["resumed_at_line"] == 1
        assert (summary["created"], summary["duplicate"], summary["refused"]) == (4, 0, 1)
        assert totals()["requests"] == 4


class TestDryRun:
    def test_writes_nothing_and_says_what_would_be(self, run, config, file, totals, events):
        kept = sorted((config.home / "imports").glob("*"))

        result = run(file, *MAPPED, "--shift-to-now", "--dry-run", "--json")

        summary = json.loads(result.stdout)
        assert (summary["valid"], summary["refused"], summary["dry_run"]) == (25, 0, True)
        assert Decimal(summary["pricing"][0]["cost"]) == cost_of(25)
        assert totals()["requests"] == 0
        assert events() == []
        assert sorted((config.home / "imports").glob("*")) == kept

    def test_judges_rows_as_the_import_does(self, run, file):
        result = run(file, *MAPPED, "--dry-run")

        assert result.exit_code == 1
        assert "refused              25" in result.stdout
        assert "dry run: nothing was written" in result.stdout


class TestChooseTheProject:
    def test_by_its_slug_or_id(self, summary_of, file, project, make_project):
        make_project(name="Other")

        for name in (project.slug, project.id):
            summary = summary_of(file, *MAPPED, "--shift-to-now", "--project", name)
            assert summary["project_id"] == str(project.id)

    def test_by_its_id_in_whatever_organization(self, run, file, project):
        result = run(file, *MAPPED, "--shift-to-now", "--project", project.id, organization=None)

        assert result.exit_code == 0

    def test_by_the_only_name_of_an_organization(self, run, file, alice, as_system):
        name = f"Only {alice.organization_id}"
        as_system(
            "UPDATE organizations SET name = :name WHERE id = :id",
            name=name,
            id=alice.organization_id,
        )

        assert run(file, *MAPPED, "--shift-to-now", organization=name).exit_code == 0

    def test_must_be_named_where_there_are_several(self, run, file, project, make_project):
        other = make_project(name="Other")

        result = run(file, *MAPPED)

        assert result.exit_code == 1
        assert "--project: there are several, name one: " in result.stderr
        assert project.slug in result.stderr
        assert other.slug in result.stderr

    def test_needs_the_organization_where_the_slug_is_of_several(
        self, run, file, project, stranger, as_system
    ):
        theirs = people.make_project(stranger)
        as_system(
            "UPDATE projects SET slug = :slug WHERE id = :id", slug=project.slug, id=theirs.id
        )

        result = run(file, *MAPPED, "--project", project.slug, organization=None)

        assert result.exit_code == 1
        assert f"--organization: several have a project '{project.slug}'" in result.stderr

    def test_refuses_a_project_that_is_not_there(self, run, file, project, stranger, make_project):
        theirs = make_project(owner=stranger)

        for name in ("no-such", project.slug[:-1], theirs.id, theirs.slug):
            result = run(file, *MAPPED, "--project", name)
            assert result.exit_code == 1
            assert f"--project: there is no project with the id or slug '{name}'" in result.stderr

    def test_refuses_an_organization_that_is_not_there(self, run, file):
        result = run(file, *MAPPED, organization="No such organization")

        assert "--organization: there is none with the id or name" in result.stderr

    def test_refuses_a_name_that_several_organizations_have(self, run, file, stranger):
        result = run(file, *MAPPED, organization="Elsewhere")

        # Every stranger of every test is the owner of an Elsewhere; alone, there is no project.
        assert result.exit_code == 1
        assert result.stderr.startswith(("Error: --organization: several", "Error: --project"))

    def test_says_where_there_is_no_project_yet(self, run, file, stranger):
        result = run(file, *MAPPED, organization=stranger.organization_id)

        assert "--project: there is no project yet; make one" in result.stderr


class TestRefuseTheOrder:
    @pytest.mark.parametrize(
        ("options", "rule"),
        [
            (["--map", "usage.gb=None"], "--map: usage.gb=None: the file has no such column"),
            (["--map", "tokens=ContextTokens"], "--map: 'tokens' is no field of a call"),
            (["--map", "started_at=TIMESTAMP"], "--map: started_at is given twice"),
            (["--set", "provider"], "--set: 'provider' must read field=value"),
            (["--set", "outcome=fine"], "--set: outcome: Input should be 'success'"),
            (["--set", "stream=perhaps"], "--set: stream must be true or false"),
            (["--set", "id=x"], "--set: id must differ from call to call"),
            (["--timezone", "Mars/Olympus"], "--timezone: must be an IANA name"),
            (["--id-prefix", "a/b"], "--id-prefix: must be 1 to 64 characters"),
            (["--format", "ndjson"], "--map: an NDJSON file has no columns"),
        ],
    )
    def test_names_the_option_and_the_rule(self, run, file, totals, options, rule):
        result = run(file, *MAPPED, "--shift-to-now", *options)

        assert result.exit_code == 1
        assert rule in result.stderr
        assert totals()["requests"] == 0

    @pytest.mark.parametrize(
        ("mapped", "rule"),
        [
            (MAPPED[2:], "--map: nothing says when a call started"),
            (MAPPED[:6] + MAPPED[8:], "--map: nothing says whose API was called"),
        ],
    )
    def test_names_what_nothing_gives(self, run, file, mapped, rule):
        result = run(file, *mapped)

        assert (result.exit_code, rule in result.stderr) == (1, True)

    @pytest.mark.parametrize(
        ("name", "content", "rule"),
        [
            ("x.txt", trace(), "--format: x.txt does not say what it is; add --format csv"),
            ("x.csv", b"", "FILE: has no rows"),
            ("x.csv", trace(0), "FILE: has no rows"),
            ("x.csv", trace().decode().encode("utf-16"), "FILE: is UTF-16"),
            (
                "x.csv",
                trace().replace(b"TIMESTAMP", b"Z\xe9it"),
                "FILE: its first line is no UTF-8",
            ),
            ("x.csv", trace().replace(b",", b";"), "the file has no such column"),
        ],
    )
    def test_says_what_is_wrong_with_the_file(self, run, tmp_path, name, content, rule):
        path = tmp_path / name
        path.write_bytes(content)

        result = run(path, *MAPPED)

        assert (result.exit_code, rule in result.stderr) == (1, True), result.stderr

    def test_refuses_a_file_that_is_not_there(self, run, tmp_path):
        result = run(tmp_path / "none.csv", *MAPPED)

        assert result.exit_code == 2
        assert "does not exist" in result.stderr

    def test_refuses_a_pipe(self, run, tmp_path):
        os.mkfifo(tmp_path / "pipe.csv")

        result = run(tmp_path / "pipe.csv", *MAPPED)

        assert result.exit_code == 1
        assert "is no regular file" in result.stderr


@pytest.fixture
def order(project, file):
    file.write_bytes(trace(20))
    return ImportOrder(
        organization_id=project.organization_id,
        project_id=project.id,
        project_name=project.name,
        path=file,
        form=FORM,
        moves_to_now=True,
        batch_size=4,
    )


@pytest.fixture
def bring(app, order, tmp_path):
    """Import `order`; `report` may end it."""

    def import_once(report=lambda _: None, **changed):
        fields = {name: getattr(order, name) for name in order.__slots__}
        with app.app_context(), acting_as(operator("test")):
            return import_calls(
                order=ImportOrder(**fields | changed),
                home=tmp_path / "home",
                retention=RETENTION,
                now=lambda: datetime.now(UTC),
                report=report,
            )

    return import_once


def ends_after(batches):
    """Return a report that ends the process after so many commits; the first report is the beginning."""
    seen = []

    def report(progress):
        seen.append(progress)
        if len(seen) > batches:
            raise Killed

    return report


@pytest.fixture
def ends_before_commit(monkeypatch):
    """Let the process end right before its n-th commit."""

    def end(number):
        commits = []

        @contextmanager
        def ending():
            with transaction():
                yield
                commits.append(1)
                if len(commits) == number:
                    raise Killed

        monkeypatch.setattr(imports, "transaction", ending)

    return end


class TestGoOn:
    @pytest.mark.parametrize("batches", [1, 2, 5])
    @pytest.mark.parametrize("batch_size", [4, 3, 1000])
    def test_after_an_end_behind_a_commit(self, bring, totals, batches, batch_size):
        with pytest.raises(Killed):
            bring(ends_after(batches))

        summary = bring(batch_size=batch_size)

        assert (summary.tally.created, summary.tally.duplicate) == (20, 0)
        # The last batch is read again, for nobody noted that it was committed.
        assert summary.rows_of_this_run == 20 - 4 * (batches - 1)
        assert summary.tally.pricing[0].calls == 20
        assert totals()["requests"] == 20
        assert Decimal(totals()["cost"]) == cost_of(20)

    @pytest.mark.parametrize("commit", [1, 3, 5])
    def test_after_an_end_before_a_commit(
        self, bring, totals, ends_before_commit, monkeypatch, commit
    ):
        ends_before_commit(commit)
        with pytest.raises(Killed):
            bring()
        monkeypatch.undo()

        summary = bring()

        assert (summary.tally.created, summary.tally.duplicate) == (20, 0)
        assert summary.tally.pricing[0].cost_picos == cost_of(20) * 10**12
        assert totals()["requests"] == 20

    def test_after_one_end_after_another(self, bring, totals, ends_before_commit, monkeypatch):
        for commit in (2, 1, 1, 2):
            ends_before_commit(commit)
            with pytest.raises(Killed):
                bring()
            monkeypatch.undo()
            with pytest.raises(Killed):
                bring(ends_after(1))

        summary = bring()

        assert (summary.tally.created, summary.tally.duplicate) == (20, 0)
        assert totals()["requests"] == 20

    def test_from_the_first_row_when_other_options_are_given(self, bring):
        with pytest.raises(Killed):
            bring(ends_after(2))
        constants = {**FORM.constants, "attribution.team": "core"}

        form = FileForm(FileFormat.csv, FORM.columns, constants)
        summary = bring(form=form)

        assert summary.resumed_at_line is None
        # The calls are the same calls, so those that were stored are stored otherwise.
        assert (summary.tally.created, summary.tally.refused) == (12, 8)

    def test_from_the_first_row_when_asked_to(self, bring):
        with pytest.raises(Killed):
            bring(ends_after(2))

        summary = bring(starts_over=True)

        assert (summary.tally.created, summary.tally.duplicate) == (12, 8)

    def test_and_records_what_an_interrupted_run_had_stored(self, bring, events):
        with pytest.raises(Killed):
            bring(ends_after(2))
        bring()

        kept = [(after["created"], after["finished"]) for *_, after in events()]
        assert kept == [(8, False), (20, True)]

    def test_from_a_journal_whose_last_line_was_cut_off(self, bring, tmp_path, totals):
        with pytest.raises(Killed):
            bring(ends_after(3))
        (journal,) = (tmp_path / "home" / "imports").glob("*.jsonl")
        journal.write_bytes(journal.read_bytes()[:-20])

        summary = bring()

        assert summary.tally.rows == 20
        assert totals()["requests"] == 20

    def test_reports_how_far_it_is(self, bring, order):
        seen = []
        bring(seen.append)

        size = order.path.stat().st_size
        assert [progress.rows for progress in seen] == [0, 4, 8, 12, 16, 20]
        assert {progress.size for progress in seen} == {size}
        assert seen[-1].offset == size

    def test_lets_one_process_at_a_time(self, bring, tmp_path):
        with pytest.raises(Killed):
            bring(ends_after(1))
        (journal,) = (tmp_path / "home" / "imports").glob("*.jsonl")

        with Journal(journal).held(), pytest.raises(Exception, match="another process"):
            bring()

    def test_refuses_to_begin_where_it_could_not_keep_its_position(self, bring, tmp_path, totals):
        (tmp_path / "home").write_text("a file where the folder should be")

        with pytest.raises(ImportFault, match="DEVGUARD_HOME: the position of the import"):
            bring()

        assert totals()["requests"] == 0


@pytest.fixture
def environment(app, config, tmp_path):
    """The settings of another process on the same database, with a home of its own."""
    return {
        "PATH": os.environ["PATH"],
        "DEVGUARD_HOME": str(tmp_path / "home"),
        "DATABASE_URL": config.database_url,
        "REDIS_URL": config.redis_url,
        "SECRET_KEY": config.secret_key,
        "JWT_SECRET_KEY": config.jwt_secret_key,
    }


def process(environment, *arguments):
    command = [sys.executable, "-m", "flask", "--app", "app", "api-requests", "import"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.faults
class TestProcess:
    @pytest.mark.parametrize(
        ("sent", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
    )
    def test_ended_in_the_middle_goes_on_to_exact_totals(  # noqa: PLR0917 - fixtures
        self, environment, file, project, totals, tmp_path, sent, code
    ):
        file.write_bytes(trace(2000))
        arguments = [
            file, *MAPPED, "--shift-to-now", "--batch-size", 20, "--json",
            "--organization", project.organization_id,
        ]  # fmt: skip
        victim = process(environment, *arguments)
        _wait_for_lines(tmp_path / "home" / "imports", least=4)
        victim.send_signal(sent)
        _, last_words = victim.communicate(timeout=60)
        stored = totals()["requests"]

        survivor = process(environment, *arguments)
        output, errors = survivor.communicate(timeout=120)

        summary = json.loads(output)
        assert victim.returncode == code
        assert ("The same command goes on" in last_words) == (sent == signal.SIGINT)
        assert 0 < stored < 2000
        assert summary["resumed_at_line"] is not None
        assert "Going on at line" in errors
        assert (summary["created"], summary["duplicate"], summary["refused"]) == (2000, 0, 0)
        assert totals()["requests"] == 2000
        assert Decimal(totals()["cost"]) == cost_of(2000)

    def test_says_to_start_the_product_where_it_does_not_run(self, file, tmp_path):
        home = tmp_path / "never-started"
        environment = {"PATH": os.environ["PATH"], "DEVGUARD_HOME": str(home)}

        command = process(environment, file, *MAPPED)
        output, errors = command.communicate(timeout=60)

        assert (command.returncode, output) == (1, "")
        assert f"the database of DEVGUARD_HOME={home} does not answer" in errors
        assert "Start DevGuard with the same settings (python run.py)" in errors
        assert "Traceback" not in errors


def _wait_for_lines(folder, *, least):
    """Wait until the journal notes so many batches."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(path.read_bytes().count(b"\n") > least for path in folder.glob("*.jsonl")):
            return
        time.sleep(0.005)
    raise AssertionError("the import does not get ahead")
