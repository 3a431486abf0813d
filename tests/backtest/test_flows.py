"""A backtest as a run of a real Prefect server, and as a command: a named end, an artifact, a report on disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.backtest import backtest

PROJECT = Path(__file__).resolve().parents[2]
QUICK = {"candle_seconds": 60, "htf_filter": False, "macd_confirmation": False, "supertrend_period": 3}
# Prefect leaves sockets of its own threads to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*unclosed.*:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def artifacts(key):
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))


def test_a_backtest_is_a_run_with_its_report(prefect_server, minute_bars, tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_HOME", str(tmp_path))
    state = backtest(
        [str(minute_bars)], QUICK, first="2026-11-18", json_file=str(tmp_path / "result.json"), return_state=True
    )
    assert (state.name, state.is_completed()) == ("Tested", True)
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["days"]) == 1
    (page,) = (tmp_path / "backtests").glob("*.html")
    artifact = next(found for found in artifacts("backtest") if str(page) in found.data)
    assert "must admit" in artifact.data
    # As after a session: the trades as a table, each with its reasons.
    table = next(
        found for found in artifacts("backtest-trades") if len(json.loads(found.data)) == len(result["trades"])
    )
    rows = json.loads(table.data)
    assert len(rows) == len(result["trades"])
    assert all(row["why bought"] and row["why sold"] for row in rows)


def test_walking_forward_is_a_run_that_takes_everything_from_its_grid(
    prefect_server, minute_bars, tmp_path, monkeypatch
):
    pytest.importorskip("numba", reason="choosing settings needs the packages of [sweep]")
    monkeypatch.setenv("BOT_HOME", str(tmp_path))
    grid = minute_bars.parent / "forward.yaml"
    fixed = json.dumps({name: value for name, value in QUICK.items() if name != "supertrend_period"})
    grid.write_text(
        f"data: [{minute_bars.name}]\nfrom: 2026-11-16\nsettings: {fixed}\ngrid: {{supertrend_period: [3, 7]}}\n"
    )
    answer = tmp_path / "result.json"
    state = backtest(walk_forward=str(grid), fit_days=2, trade_days=1, json_file=str(answer), return_state=True)
    assert (state.name, state.is_completed()) == ("Tested", True)
    (stretch,) = json.loads(answer.read_text())["admissions"]["walk_forward"]
    assert stretch["first"] == "2026-11-18"
    assert stretch["chosen"]["supertrend_period"] in {3, 7}
    assert any("walk-forward" in artifact.data for artifact in artifacts("backtest"))
    refused = backtest([str(minute_bars)], walk_forward=str(grid), return_state=True)
    assert refused.is_failed()
    assert "in the grid file alone, found some beside it" in refused.message


def test_the_commands_answer_in_words_and_refuse_in_words(minute_bars, tmp_path):
    def bot(*words):
        return subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", *words],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )

    done = bot("backtest", "--data", str(minute_bars), "--from", "2026-11-18", "--home", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "What this test must admit:" in done.stdout
    wrong = bot("backtest", "--data", str(minute_bars), "--set", "candle_secnds=60")
    assert wrong.returncode == 2
    assert "did you mean 'candle_seconds'?" in wrong.stderr
    assert "Traceback" not in wrong.stderr
