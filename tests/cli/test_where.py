"""Tests of --where: what a predicate sees and selects, and that it can do nothing else."""

import _thread
import threading
from pathlib import Path

import pytest
from command import Run
from support import seeded

import wfpsa
from wfpsa import testing
from wfpsa.cli.common import ExitCode, UsageFault
from wfpsa.cli.where import check, matching


def a_batch() -> wfpsa.SaBatch:
    return seeded(500, 7, odd=True)


def ids(batch: wfpsa.SaBatch) -> list[int]:
    return batch["context_id"].tolist()


def test_the_predicate_the_subnet_and_python_select_the_same_contexts() -> None:
    with wfpsa.open_engine("embedded:?contexts=100000&seed=7") as engine:
        everything = engine.snapshot()
        by_subnet = ids(engine.snapshot(remote="10.0.0.0/8"))
    by_predicate = ids(matching(everything, "remote_address LIKE '10.%'"))
    prefix = bytes(10) + b"\xff\xff\x0a"
    addresses = zip(everything["context_id"], everything["remote_address"], strict=True)
    by_python = [number for number, address in addresses if address is not None and address.startswith(prefix)]
    assert by_predicate == by_subnet == by_python
    assert 0 < len(by_python) < 100000


def test_enumerations_are_names_and_numbers_are_numbers() -> None:
    batch = a_batch()
    found = matching(batch, "traffic_type = 'TUNNEL' AND lifetime_seconds_out >= 3600")
    expected = [
        context.context_id
        for context in batch
        if context.traffic_type is wfpsa.TrafficType.TUNNEL
        and context.outbound is not None
        and context.outbound.lifetime_seconds >= 3600
    ]
    assert ids(found) == expected != []


def test_an_absent_value_is_null() -> None:
    batch = a_batch()
    expected = [context.context_id for context in batch if context.spi_out is None]
    assert ids(matching(batch, "spi_out IS NULL")) == expected != []


def test_a_null_predicate_selects_nothing_and_true_everything() -> None:
    batch = a_batch()
    assert len(matching(batch, "NULL")) == 0
    assert ids(matching(batch, "true")) == ids(batch)


def test_the_order_stays_and_the_limit_comes_after_the_filter() -> None:
    batch = a_batch()
    every = ids(matching(batch, "has_outbound"))
    assert every == sorted(every, key=ids(batch).index)
    assert ids(matching(batch, "has_outbound", 7)) == every[:7]


def test_a_slice_with_a_step_is_filtered_by_its_own_rows() -> None:
    batch = a_batch()
    part = batch[400:10:-3]
    assert ids(matching(part, "true")) == ids(part)


def test_a_subquery_over_the_contexts_is_an_expression() -> None:
    batch = a_batch()
    found = matching(batch, "mm_sa_id_out = (SELECT max(mm_sa_id_out) FROM contexts)")
    assert len(found) >= 1


@pytest.mark.parametrize("predicate", ["true -- always", "true /* always */", "'--' <> ';'", "\n true \n", "(true)"])
def test_comments_and_line_breaks_belong_to_an_expression(predicate: str) -> None:
    batch = a_batch()
    assert len(matching(batch, predicate)) == len(batch)


BREAKOUTS = [
    "",
    " ",
    "-- nothing",
    "1; DROP VIEW contexts",
    "true; SELECT 1",
    "true;",
    ";",
    "1) --",
    "1) /*",
    "1 /*",
    "true) OR (true",
    "false) UNION SELECT (1",
    "false) UNION ALL SELECT position FROM contexts WHERE (true",
    "true) LIMIT (1",
    "true LIMIT 1",
    "true ORDER BY 1",
    "true FROM contexts",
    "1 FROM contexts WHERE true",
    "true AS x",
    "1, 2",
    "*",
    "SELECT true",
    "FROM contexts",
    "SET threads = 1",
    "COPY contexts TO 'stolen.csv'",
    "ATTACH 'other.db'",
    "count(*) > 1",
    "row_number() OVER () = 1",
    "? = 1",
    "$id = 1",
    "true\x00) --",
    "\udcff = 1",
]


@pytest.mark.parametrize("predicate", BREAKOUTS)
def test_what_is_not_one_expression_is_refused(predicate: str) -> None:
    batch = a_batch()
    with pytest.raises(UsageFault, match=r"^--where"):
        matching(batch, predicate)


@pytest.mark.parametrize(
    "predicate",
    [
        "(SELECT count(*) FROM read_csv('{path}')) > 0",
        "(SELECT count(*) FROM read_text('{path}')) > 0",
        "(SELECT count(*) FROM read_blob('{path}')) > 0",
        "(SELECT count(*) FROM '{path}') > 0",
        "(SELECT count(*) FROM glob('{path}')) > 0",
        "(SELECT count(*) FROM query('COPY contexts TO ''{path}.csv''')) > 0",
        "getenv('PATH') <> ''",
        "remote_address::INET IS NOT NULL",
    ],
)
def test_a_predicate_reaches_no_file_variable_or_extension(tmp_path: Path, predicate: str) -> None:
    batch = a_batch()
    path = tmp_path / "secret.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageFault):
        matching(batch, predicate.format(path=path.as_posix()))
    assert list(tmp_path.iterdir()) == [path]


def test_a_predicate_reaches_no_python_variable() -> None:
    batch = a_batch()
    with pytest.raises(UsageFault, match="does not exist"):
        matching(batch, "(SELECT count(*) FROM batch) > 0")


def test_the_connection_is_closed_to_files_and_locked() -> None:
    batch = a_batch()
    settings = "(SELECT value FROM duckdb_settings() WHERE name = '{}') = '{}'"
    for name, value in (("enable_external_access", "false"), ("lock_configuration", "true")):
        assert len(matching(batch, settings.format(name, value))) == len(batch)


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ("remote_adress = '10.0.0.1'", "remote_address"),
        ("remote_address = ", "syntax error"),
        ("nothing(context_id)", "nothing"),
    ],
)
def test_a_mistake_is_refused_with_the_words_of_duckdb_before_an_engine_is_asked(
    run: Run, embedded: testing.EmbeddedEngine, predicate: str, message: str
) -> None:
    embedded.rights("everyone")
    for verb in ("list", "expire"):
        result = run(verb, "--where", predicate, "--engine", embedded.target)
        assert result.code == ExitCode.USAGE
        assert result.out == b""
        assert result.err.startswith("wfpsa: --where")
        assert message in result.err
        assert "Traceback" not in result.err


def test_checking_a_predicate_asks_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFPSA_ENGINE", "embedded:?rights=everyone")
    check("has_inbound")


def test_ctrl_c_stops_a_predicate_that_takes_long(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object) -> str:
        threading.Timer(0.2, _thread.interrupt_main).start()
        return "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE hash(a.range, b.range) % 7 = 1"

    monkeypatch.setattr("wfpsa.cli.where._selection", endless)
    result = run("list", "--engine", "embedded:", "--where", "true")
    assert result.code == ExitCode.INTERRUPTED
    assert result.out == b""
    assert "Traceback" not in result.err


def test_it_works_without_pyarrow_and_numpy(spawn: Run) -> None:
    code = (
        "import sys\n"
        "for name in ('pyarrow', 'numpy', 'pandas', 'polars'): sys.modules[name] = None\n"
        "from wfpsa.cli import main; sys.exit(main())"
    )
    arguments = ["--engine", "embedded:?contexts=50&seed=7", "--format", "csv", "--columns", "remote_address"]
    result = spawn("list", "--where", "remote_address LIKE '10.%'", *arguments, code=code)
    assert result.code == ExitCode.DONE, result.err
    assert len(result.lines) > 1
    assert all(line.startswith("10.") for line in result.lines[1:])
