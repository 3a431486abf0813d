"""The settings: defaults of the rules, every fault in one message, a form with units and bounds."""

import re
from datetime import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from strategy.contradictions import CANDLE_SECONDS
from strategy.params import Params

DEFAULTS = {
    "index": "NIFTY",
    "mode": "rehearsal",
    "candle_seconds": 5,
    "supertrend_period": 7,
    "supertrend_multiplier": 4.0,
    "macd_confirmation": True,
    "macd_fast": 12,
    "macd_slow": 26,
    "macd_signal": 9,
    "htf_filter": True,
    "htf_seconds": 60,
    "lots": 1,
    "risk_per_trade": 0,
    "moneyness": 0,
    "max_trades_per_day": 5,
    "daily_max_loss": 2000,
    "max_loss_per_trade": 0,
    "stop_loss_points": 50,
    "target_points": 0,
    "trail_start_points": 0,
    "trail_step_points": 0,
    "flip_only": True,
    "min_hold_seconds": 15,
    "order_cooldown_seconds": 15,
    "min_trade_gap_seconds": 0,
    "entry_start": time(9, 25),
    "entry_cutoff": time(15, 10),
    "squareoff_at": time(15, 25),
    "entries_enabled": True,
    "bypass_market_hours": False,
    "product": "MARGIN",
    "stale_after_seconds": 10,
    "candle_grace_seconds": 1,
    "on_unknown_position": "halt",
    "pause_after_losses": 0,
    "pause_minutes": 0,
    "stop_losses_per_day": 0,
    "profit_lock_from": 0,
    "profit_lock_percent": 0,
    "max_spread_percent": 0,
}

# What is given, and what the one message has to say about it.
REFUSED = {
    "an unknown setting": (
        {"stop_loss_point": 5},
        ["unknown setting 'stop_loss_point'; did you mean 'stop_loss_points'?"],
    ),
    "a setting like no other": ({"zzz": 5}, ["unknown setting 'zzz'"]),
    "a candle that is not offered": ({"candle_seconds": 10}, ["candle_seconds must be one of 5, 15, 30, 60, 300, 900"]),
    "a candle of nothing": ({"candle_seconds": 0}, ["candle_seconds: "]),
    "a higher timeframe equal to the candle": ({"candle_seconds": 60}, ["htf_seconds must be a multiple"]),
    "a higher timeframe below the candle": ({"candle_seconds": 300}, ["htf_seconds must be a multiple"]),
    "a higher timeframe that is no multiple": (
        {"candle_seconds": 15, "htf_seconds": 50},
        ["htf_seconds must be a multiple"],
    ),
    "equal averages": ({"macd_fast": 26}, ["macd_fast must be smaller than macd_slow"]),
    "averages the wrong way round": ({"macd_fast": 27}, ["macd_fast must be smaller than macd_slow"]),
    "a trailing start without a step": (
        {"trail_start_points": 5},
        ["trail_start_points and trail_step_points go together"],
    ),
    "a trailing step without a start": (
        {"trail_step_points": 5},
        ["trail_start_points and trail_step_points go together"],
    ),
    "a pause without its trigger": ({"pause_minutes": 5}, ["pause_after_losses and pause_minutes go together"]),
    "half a profit lock": ({"profit_lock_from": 5}, ["profit_lock_from and profit_lock_percent go together"]),
    "risk without a stop": ({"risk_per_trade": 5, "stop_loss_points": 0}, ["risk_per_trade needs a stop"]),
    "a start at the cutoff": ({"entry_start": "15:10"}, ["entry_start must be before entry_cutoff"]),
    "a cutoff at the squareoff": ({"entry_cutoff": "15:25"}, ["entry_cutoff must be before squareoff_at"]),
    "times with an offset": ({"entry_start": "09:25+05:30"}, ["times in India"]),
    "INTRADAY after 15:10": ({"product": "INTRADAY"}, ["product INTRADAY needs squareoff_at at 15:10 or earlier"]),
    "live without a daily loss": ({"mode": "live", "daily_max_loss": 0}, ["mode live needs a daily_max_loss above 0"]),
    "live without hours": (
        {"mode": "live", "bypass_market_hours": True},
        ["bypass_market_hours is not possible in mode live"],
    ),
    "half a paisa": ({"stop_loss_points": 0.005}, ["stop_loss_points: 0.005 is finer than a paisa"]),
    "not a number": ({"daily_max_loss": float("nan")}, ["daily_max_loss: "]),
    "no end": ({"target_points": float("inf")}, ["target_points: "]),
    "a negative loss": (
        {"daily_max_loss": -1},
        ["daily_max_loss: input should be greater than or equal to 0, found -1"],
    ),
    "another index": ({"index": "MIDCPNIFTY"}, ["index: "]),
    "another mode": ({"mode": "Live!"}, ["mode: "]),
    "half a lot": ({"lots": 1.5}, ["lots: "]),
    "everything at once": (
        {"lots": 0, "typo": 1, "macd_fast": 30, "mode": "live", "daily_max_loss": 0, "trail_start_points": 1},
        ["4 faults", "lots: ", "'typo'", "macd_fast must be", "mode live needs", "go together"],
    ),
}

ACCEPTED = {
    "INTRADAY until 15:10": {"product": "INTRADAY", "squareoff_at": "15:10", "entry_cutoff": "15:00"},
    "live with a limit": {"mode": "live"},
    "no limit outside live": {"daily_max_loss": 0},
    "no hours outside live": {"mode": "paper", "bypass_market_hours": True},
    "a filter that is off may contradict": {"candle_seconds": 300, "htf_filter": False},
    "the longest candle under an hour": {"candle_seconds": 900, "htf_seconds": 3600},
    "both parts of the trail": {"trail_start_points": 10, "trail_step_points": 5},
    "a paisa": {"stop_loss_points": 0.01},
    "rupees that binary fractions cannot hold": {"stop_loss_points": 12.35, "daily_max_loss": 1999.99},
}


def test_the_defaults_are_those_of_the_rules():
    params = Params()
    assert {name: getattr(params, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """One error, and it names everything that is wrong."""
    given_, said = REFUSED[name]
    with pytest.raises(ValidationError) as error:
        Params(**given_)
    (fault,) = error.value.errors()
    for words in said:
        if not re.fullmatch(r"\d faults", words):
            assert words in fault["msg"]
    count = fault["msg"].count("\n  - ")
    assert fault["msg"].startswith(f"Value error, {count} fault")
    assert count >= len([words for words in said if not re.fullmatch(r"\d faults", words)])


def test_a_fault_in_one_setting_does_not_hide_contradictions_of_others():
    with pytest.raises(ValidationError) as error:
        Params(macd_fast="x", trail_start_points=1, macd_slow=5)
    message = str(error.value)
    assert "2 faults" in message
    assert "macd_fast: " in message
    assert "go together" in message
    assert "smaller than" not in message  # macd_fast is in doubt, so its relation is no fault of its own


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name):
    Params(**ACCEPTED[name])


@pytest.mark.parametrize("seconds", CANDLE_SECONDS)
def test_every_candle_is_offered(seconds):
    assert Params(candle_seconds=seconds, htf_seconds=seconds * 2).candle_seconds == seconds


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        Params().lots = 2


def test_the_form_has_title_description_unit_and_bounds():
    """Every setting explains itself in the form; numbers have bounds."""
    schema = Params.model_json_schema()
    for name, field in schema["properties"].items():
        # A choice whose own title is the same leaves it to the choice.
        label = field.get("title") or schema["$defs"][field["$ref"].rpartition("/")[2]]["title"]
        title = Params.model_fields[name].title
        assert label in {title, f"{title} ({field['unit']})"}
        if field.get("type") in {"integer", "number", "string"}:
            assert field["unit"] in label.lower() or field["unit"] in label
        assert field["description"].endswith("."), name
        assert field["unit"], name
        assert "default" in field, name
        assert field.get("format") != "time", "the form wants an offset from UTC in it and refuses 09:25"
        if field.get("type") in {"integer", "number"}:
            assert "minimum" in field or "exclusiveMinimum" in field, name
            assert "maximum" in field, name
            assert "Allowed: " in field["description"], name


def test_settings_survive_the_database():
    """What a run writes down is what a later reader gets."""
    params = Params(stop_loss_points=12.35, entry_start="09:30", trail_start_points=10, trail_step_points=5)
    assert Params.model_validate(params.model_dump(mode="json")) == params
    assert Params.model_validate_json(params.model_dump_json()) == params
    assert Params.model_validate(params) == params


@given(st.integers(0, 1_000_000))
def test_rupees_become_exactly_their_paise(paise):
    """Integer paise of any form value are the paise that were typed."""
    params = Params(stop_loss_points=paise / 100, daily_max_loss=paise / 100, max_loss_per_trade=paise / 100)
    assert params.stop_loss_paise == params.daily_max_loss_paise == params.max_loss_per_trade_paise == paise


def test_derived_amounts():
    params = Params(
        risk_per_trade=1.01, target_points=2.02, trail_start_points=3.03, trail_step_points=4.04,
        price_buffer_min_points=5.05, profit_lock_from=6.06, profit_lock_percent=7, stale_after_seconds=8,
        candle_grace_seconds=0.5, lots=3,
    )  # fmt: skip
    assert params.risk_per_trade_paise == 101
    assert params.target_paise == 202
    assert (params.trail_start_paise, params.trail_step_paise) == (303, 404)
    assert params.price_buffer_min_paise == 505
    assert params.profit_lock_from_paise == 606
    assert (params.stale_after_ms, params.candle_grace_ms) == (8_000, 500)
    assert params.lots_max == 3
    assert (params.supertrend.period, params.supertrend.multiplier) == (7, 4.0)
    assert (params.macd.fast, params.macd.slow, params.macd.smoothing) == (12, 26, 9)
