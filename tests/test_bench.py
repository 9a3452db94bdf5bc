"""The benchmark that ships: what is measured, what is left out and named, and what a budget says of a figure."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from wfpsa import bench
from wfpsa.bench import budgets, cases


@pytest.mark.misuses_memory  # ctypes_fast reads texts in strides
def test_every_row_runs_and_says_whether_its_budgets_are_met() -> None:
    seen: list[str] = []
    rows = [row for row in bench.ROWS if "100 us" not in row and row != "import"]  # which take long, whatever the size
    report = bench.run(1000, rows=rows, seconds=0, progress=seen.append)
    assert seen == rows == [row.row for row in report.rows]
    for row in report.rows:
        names = [figure.name for figure in row.figures]
        assert names and len(set(names)) == len(names)
        assert all(figure.value > 0 and figure.rounds >= 1 for figure in row.figures)
        for verdict in row.verdicts:
            holds = verdict.measured >= verdict.wanted if verdict.at_least else verdict.measured <= verdict.wanted
            assert verdict.met == holds
    absent = {name.rpartition("/")[2] for name in report.skipped}
    assert absent <= {"win32more", "cffi"}
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()


def test_sessions_that_expire_together_expire_all_that_they_were_given() -> None:
    outside, inside = bench.run(1000, rows=["expire, 100 us"], seconds=0).rows
    assert [figure.name for figure in outside.figures] == ["1 session", "4 sessions", "16 sessions", "64 sessions"]
    assert [figure.name for figure in inside.figures] == ["1 session", "16 sessions"]
    assert {figure.contexts for figure in (*outside.figures, *inside.figures)} == {cases.SESSION_IDS}


def test_what_a_benchmark_expires_is_not_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit"
    monkeypatch.setenv("WFPSA_AUDIT", str(path))
    bench.run(1000, rows=["expire"], seconds=0)
    assert not path.exists() and os.environ["WFPSA_AUDIT"] == str(path)


def test_an_import_is_measured_in_milliseconds_beside_a_bare_python() -> None:
    (row,) = bench.run(1000, rows=["import"], seconds=0).rows
    assert [(figure.name, figure.unit, figure.contexts) for figure in row.figures] == [
        ("import wfpsa", "ms", 0),
        ("bare Python", "ms", 0),
    ]


def test_a_case_that_does_not_do_its_work_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    work = cases.Work(lambda: 1, is_right=lambda result: result == 2)
    with pytest.raises(RuntimeError, match="did not do its work"):
        work.run(lambda: 0)
    peer = cases.Case("diff, same order", "peer", lambda stage, contexts: work, module="json")
    monkeypatch.setattr(bench, "CASES", (*cases.CASES, peer))
    report = bench.run(1000, rows=["diff, same"], seconds=0)
    assert [figure.name for figure in report.rows[0].figures] == ["wfpsa", "numpy"]
    assert report.skipped["diff, same order/peer"].startswith("failed: RuntimeError: a benchmark did not")
    monkeypatch.setattr(bench, "CASES", (*cases.CASES, peer._replace(module="")))
    with pytest.raises(RuntimeError):
        bench.run(1000, rows=["diff, same"], seconds=0)


def test_what_needs_an_absent_package_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "missing", lambda module: f"no {module}" if module == "numpy" else "")
    monkeypatch.setattr(bench, "missing", cases.missing)
    report = bench.run(1000, rows=["diff", "memory"], seconds=0)
    assert [row.row for row in report.rows] == ["memory of a context"]
    assert report.skipped["diff, same order/numpy"] == "no numpy"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"contexts": 999}, ValueError, "contexts must be 1,000 to 10,000,000, not 999"),
        ({"contexts": 1e6}, TypeError, "contexts must be an int, not float"),
        ({"contexts": True}, TypeError, "contexts must be an int, not bool"),
        ({"rows": ["lisst"]}, ValueError, "'lisst' is the beginning of no row; there are: decode core, Enum1"),
        ({"rows": "list"}, TypeError, "rows must be several names"),
        ({"seconds": -1}, ValueError, "seconds must be 0 to 600, not -1"),
        ({"seconds": "3"}, TypeError, "seconds must be a number, not str"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        bench.run(**arguments)  # type: ignore[arg-type]


def test_every_budget_is_of_a_row_and_of_figures_that_the_row_has() -> None:
    for budget in budgets.BUDGETS:
        names = [case.name for case in cases.CASES if case.row == budget.row]
        figures = dict.fromkeys(names, 1.0)
        assert budget.value(figures) >= 0, budget
        for contexts in (1000, budgets.LARGE):
            judged = [found for found, _ in budgets.verdicts(budget.row, figures, contexts)]
            assert (budget in judged) == (budget.contexts <= contexts)
    assert budgets.verdicts("list, pipelined", {"wfpsa": 1.0}, 100_000) == []


def test_a_shaped_batch_has_that_share_of_its_addresses_in_the_subnet() -> None:
    with cases.Stage() as stage:
        batch = cases.shaped(stage.batch(1000), 12)
        assert len(batch.where(remote=cases.SUBNET)) == 120
        assert None not in batch["remote_address"].tolist()


@pytest.mark.parametrize("order", ["same", "shuffled"])
def test_a_churned_pair_differs_as_numpy_says(order: str) -> None:
    with cases.Stage() as stage:
        before, after = cases.churned(stage, 2000)
        if order == "shuffled":
            after = after.take(np.random.default_rng(1).permutation(len(after)))
        diff = before.diff(after)
        found = cases.diff_with_numpy(cases.arrays_of(before), cases.arrays_of(after))
        assert found == (len(diff.added), len(diff.removed), len(diff.changed))
        assert found[:2] == (10, 10) and 0 < found[2] <= 10
