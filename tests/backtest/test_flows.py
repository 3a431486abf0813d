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
    (artifact,) = artifacts("backtest")
    assert str(page) in artifact.data
    assert "must admit" in artifact.data
    # As after a session: the trades as a table, each with its reasons.
    (table,) = artifacts("backtest-trades")
    rows = json.loads(table.data)
    assert len(rows) == len(result["trades"])
    assert all(row["why bought"] and row["why sold"] for row in rows)


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
