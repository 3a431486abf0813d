"""What the Prefect UI shows: a session while it trades, and its day when it is over.

The texts are pure functions of plain values. `LiveArtifacts` publishes them from a thread of its own: the trading
loop hands over a view in a microsecond and never learns whether a Prefect server is there.

Invariants:
1. `show` and `add_candle` never block and never raise; only the newest view counts, older ones are forgotten.
2. Each artifact is created once and updated in place, at most every few seconds, and only when it changed.
3. With the API away it tries again at growing intervals and says so once; the session does not notice.
"""

import base64
import contextvars
import json
import logging
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL
from prefect.utilities.context import get_task_and_flow_run_ids

from tasks.clock import Deadline, Stopwatch, ist
from tasks.ledger.records import CandleRecord, SessionKey
from tasks.pages.chart_process import ChartProcess
from tasks.pages.chart_rows import Picture, StopMark, TradeMark, datasets
from tasks.pages.money import render_points, render_rupees
from tasks.pages.summary import DaySummary
from tasks.pages.wording import exit_words, markdown_table, refusal_words

LOG = logging.getLogger(__name__)

VIEW_PERIOD_S: Final = 5.0
CHART_PERIOD_S: Final = 60.0
RETRY_S_MAX: Final = 300.0
API_TIMEOUT_S: Final = 10.0
CANDLES_WAITING_MAX: Final = 20_000
_ARROWS = {1: "▲ up", -1: "▼ down", 0: "not known yet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePosition:
    """What is held now."""

    contract_name: str
    quantity: int
    entry_paise: int
    last_paise: int | None
    stop_paise: int | None
    unrealised_paise: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTrade:
    """A trade of today; open while `exit_at_ms` is None. `net_paise` is after estimated charges."""

    trade: int
    contract_name: str
    option_type: str
    quantity: int
    entry_at_ms: int
    entry_paise: int
    exit_at_ms: int | None = None
    exit_paise: int | None = None
    exit_reason: str | None = None
    net_paise: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """A session as a person looks at it, in plain values. Directions: +1 up, -1 down, 0 not known yet."""

    at_ms: int
    state: str  # "waiting for the open", "trading", "entries closed", "squaring off", "closed for the day", "over"
    progress: float  # of the trading day, 0 to 1
    spot_paise: int | None
    supertrend_points: float | None
    direction: int
    htf_direction: int | None  # None: the filter is off
    position: LivePosition | None
    day_net_paise: int  # closed trades
    trades_today: int
    trades_max: int
    loss_limit_paise: int
    no_entry: str | None  # the rules' name for why the last candle was no entry
    refusals: Mapping[str, int] = field(default_factory=dict)
    halts: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    trades: tuple[LiveTrade, ...] = ()
    stops: tuple[StopMark, ...] = ()


def render_position(
    key: SessionKey, view: LiveView, controls: Mapping[str, str] | None = None, pages: Mapping[str, str] | None = None
) -> str:
    """The session in Markdown: what it made, how to stop it, what it holds, and why it does not enter.

    `controls` are addresses in the UI by the deployment's name, `pages` those of the session's other artifacts.
    """
    position = view.position
    unrealised = position.unrealised_paise if position is not None else None
    total = render_rupees(view.day_net_paise + (unrealised or 0), signed=True)
    parts = [f"closed trades {render_rupees(view.day_net_paise, signed=True)} net"]
    if unrealised is not None:
        parts.append(f"open position {render_rupees(unrealised, signed=True)}")
    parts.append(f"{view.trades_today} of {view.trades_max} trades")
    lines = [
        f"# {key.underlying} · {key.mode} · {total} today",
        "",
        render_controls(controls or {}),
        "",
        f"**{view.state}** at {ist(view.at_ms):%H:%M:%S} · {' · '.join(parts)}",
        "",
        *(f"> **halted:** {halt.replace('_', ' ')}" for halt in view.halts),
        *(f"> **no entries while:** {caution.replace('_', ' ')}" for caution in view.cautions),
        "",
    ]
    if position is None:
        lines.append("Nothing is held.")
        if view.no_entry is not None:
            lines.append(f"No entry on the last candle: {refusal_words(view.no_entry)}.")
    else:
        held = (
            f"{position.quantity} × {position.contract_name}",
            render_points(position.entry_paise),
            _points(position.last_paise),
            _points(position.stop_paise),
            f"**{_rupees(position.unrealised_paise)}**",
        )
        lines += markdown_table(("held", "bought at", "last", "stop", "result so far"), [held])
    market = (
        _points(view.spot_paise),
        _points(None if view.supertrend_points is None else round(view.supertrend_points * 100)),
        _ARROWS[view.direction],
        "off" if view.htf_direction is None else _ARROWS[view.htf_direction],
        render_rupees(view.loss_limit_paise) if view.loss_limit_paise else "off",
    )
    header = ("index", "SuperTrend", "direction", "higher timeframe", "day's loss limit")
    lines += ["", *markdown_table(header, [market])]
    if view.refusals:
        listed = sorted(view.refusals.items(), key=lambda item: -item[1])
        counted = ", ".join(f"{refusal_words(reason)} {count}" for reason, count in listed)
        lines += ["", f"Why no entry, by candles: {counted}"]
    if pages:
        lines += ["", "More: " + " · ".join(f"[{text}]({page})" for text, page in pages.items())]
    return "\n".join(lines) + "\n"


def artifact_key(key: SessionKey, what: str) -> str:
    """The key of one of a session's artifacts: each day's run writes a new one under the same key."""
    return f"{key.underlying}-{key.mode}-{what}".lower()


def artifact_page(key: SessionKey, what: str) -> str:
    """Where the UI lists the artifacts of that key, the newest first: the same path every day."""
    return f"/artifacts/key/{artifact_key(key, what)}"


def render_controls(controls: Mapping[str, str]) -> str:
    """Where the buttons are, with links where the deployments are known."""

    def link(name: str) -> str:
        return f"[{name}]({controls[name]})" if name in controls else name

    return (
        f"**STOP: {link('squareoff')}** closes everything now; {link('halt')} takes no new entries; "
        f"{link('stop')} closes and ends the session. Each opens a form: press Submit."
    )


def live_trade_rows(view: LiveView) -> list[dict[str, str]]:
    """Today's trades as the rows of a table artifact, the newest first."""
    return [
        {
            "trade": str(trade.trade),
            "contract": trade.contract_name,
            "units": str(trade.quantity),
            "bought": f"{ist(trade.entry_at_ms):%H:%M:%S}",
            "at": render_points(trade.entry_paise),
            "sold": f"{ist(trade.exit_at_ms):%H:%M:%S}" if trade.exit_at_ms is not None else "open",
            "for": _points(trade.exit_paise),
            "why": exit_words(trade.exit_reason),
            "net": render_rupees(trade.net_paise, signed=True) if trade.exit_at_ms is not None else "",
        }
        for trade in reversed(view.trades)
    ]


def day_trade_rows(summary: DaySummary) -> list[dict[str, str]]:
    """A day's trades as the rows of a table artifact, with the explanation of each."""
    return [
        {
            "trade": str(trade.trade),
            "contract": trade.contract,
            "units": str(trade.quantity),
            "bought": f"{trade.entered_at:%H:%M:%S}",
            "at": render_points(trade.entry_paise),
            "sold": f"{trade.exited_at:%H:%M:%S}" if trade.exited_at is not None else "OPEN",
            "for": _points(trade.exit_paise),
            "gross": render_rupees(trade.gross_paise, signed=True),
            "charges": render_rupees(trade.charges_paise),
            "net": render_rupees(trade.net_paise, signed=True),
            "why bought": trade.why_entry,
            "why sold": trade.why_exit,
        }
        for trade in summary.trades
    ]


def render_chart(png: bytes, title: str) -> str:
    """A picture in Markdown; the Prefect UI shows it inline (it would print an image artifact's address)."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})\n"


def live_picture(title: str, view: LiveView, candles: Sequence[CandleRecord]) -> Picture:
    """The chart of the day so far."""
    return Picture(
        title=title,
        candles=candles,
        trades=tuple(
            TradeMark(
                trade=trade.trade,
                option_type=trade.option_type,
                entry_at_ms=trade.entry_at_ms,
                entry_paise=trade.entry_paise,
                exit_at_ms=trade.exit_at_ms,
                exit_paise=trade.exit_paise,
                pnl_paise=trade.net_paise,
            )
            for trade in view.trades
        ),
        stops=view.stops,
        loss_limit_paise=view.loss_limit_paise,
    )


class ArtifactStore(Protocol):
    """Where artifacts go. Every method may raise `StoreUnavailable`."""

    def put(self, kind: str, key: str, content: object, description: str) -> None:
        """Create the artifact, or update the one this store created under `key`."""
        ...

    def page(self, key: str) -> str | None:
        """Where a person sees the artifact that this store created under `key`; None where there is none yet."""
        ...

    def controls(self) -> Mapping[str, str]:
        """Addresses of the operator's controls by name, as far as they are known."""
        ...

    def close(self) -> None:
        """Nothing more is put."""
        ...


class StoreUnavailable(Exception):
    """The artifact could not be stored; nothing depends on it."""


class PrefectArtifacts:
    """Artifacts of the flow run in whose context this is made; used from one thread.

    They belong to the flow run, not to its task: the run's page shows those first.
    """

    def __init__(self) -> None:
        _, self.flow_run_id = get_task_and_flow_run_ids()
        self._ids: dict[str, UUID] = {}
        self._client: SyncPrefectClient | None = None
        self._open = ExitStack()

    @property
    def is_possible(self) -> bool:
        """False outside a flow run, and where no API is set (Prefect would start a server of its own)."""
        return bool(PREFECT_API_URL.value()) and self.flow_run_id is not None

    def put(self, kind: str, key: str, content: object, description: str) -> None:
        """Create or update. StoreUnavailable."""
        data = json.dumps(content) if kind == "table" else content  # a table is JSON text to Prefect
        with _unavailable():
            client = self._connected()
            if key in self._ids:
                try:
                    client.update_artifact(self._ids[key], ArtifactUpdate(data=data, description=description))
                except httpx.HTTPStatusError as refused:
                    if refused.response.status_code != httpx.codes.NOT_FOUND:
                        raise
                    del self._ids[key]  # somebody deleted it in the UI
                else:
                    return
            created = client.create_artifact(
                ArtifactCreate(
                    type=kind,
                    key=key,
                    data=data,
                    description=description,
                    flow_run_id=self.flow_run_id,
                )
            )
            self._ids[key] = created.id

    def page(self, key: str) -> str | None:
        """A path on the server that shows the link."""
        return f"/artifacts/artifact/{self._ids[key]}" if key in self._ids else None

    def controls(self) -> Mapping[str, str]:
        """The forms of the control deployments. StoreUnavailable."""
        with _unavailable():
            wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=["control"]))
            found = self._connected().read_deployments(deployment_filter=wanted)
        pages = f"{PREFECT_UI_URL.value() or ''}/deployments/deployment"
        return {deployment.name: f"{pages}/{deployment.id}/run" for deployment in found}

    def _connected(self) -> SyncPrefectClient:
        if self._client is None:
            client = get_client(sync_client=True, httpx_settings={"timeout": API_TIMEOUT_S})
            self._client = self._open.enter_context(client)
        return self._client

    def close(self) -> None:
        """Close the connections."""
        self._client = None
        self._open.close()


@contextmanager
def _unavailable() -> Iterator[None]:
    """Whatever goes wrong on the way to Prefect is one kind of failure."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, PrefectException, OSError, RuntimeError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


class LiveArtifacts:
    """Publishes a running session; make it inside the task that trades, `start()`, and `close()` at the end.

    `candles` are those of an earlier start of the same day; `period_s` and `chart_period_s` are real seconds.
    """

    def __init__(
        self,
        key: SessionKey,
        *,
        candles: Sequence[CandleRecord] = (),
        store: ArtifactStore | None = None,
        period_s: float = VIEW_PERIOD_S,
        chart_period_s: float = CHART_PERIOD_S,
    ) -> None:
        self._key = key
        prefect = PrefectArtifacts()
        self._store: ArtifactStore | None = store or (prefect if prefect.is_possible else None)
        self._candles = list(candles)
        self._arrived: queue.SimpleQueue[CandleRecord] = queue.SimpleQueue()
        self._newest: LiveView | None = None
        self._period_s = period_s
        self._chart_period_s = chart_period_s
        self._charts = ChartProcess()
        self._published: dict[str, object] = {}
        self._controls: Mapping[str, str] | None = None
        self._failures = 0
        self._since_chart: Stopwatch | None = None
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        # Prefect finds its settings and runs in context variables, which a new thread does not have.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._publish_all,), name="live artifacts", daemon=True
        )

    def start(self) -> None:
        """Begin to publish; nothing happens where there is no Prefect run."""
        if self._store is not None:
            self._thread.start()

    def show(self, view: LiveView) -> None:
        """Publish `view` soon, unless a newer one comes first."""
        self._newest = view

    def add_candle(self, candle: CandleRecord) -> None:
        """The next closed candle for the chart; left out when nobody draws any more."""
        if self._arrived.qsize() < CANDLES_WAITING_MAX:
            self._arrived.put(candle)

    def close(self, timeout_s: float = 15.0) -> None:
        """Publish the last view, chart included, for at most `timeout_s`; what is not done then is left."""
        deadline = Deadline(timeout_s)
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(deadline.left_s)
        if self._thread.is_alive():
            self._abandoned.set()
            self._charts.kill()

    def _publish_all(self) -> None:
        try:
            self._publish_until_closed()
        finally:
            self._charts.close()
            if self._store is not None:
                self._store.close()

    def _publish_until_closed(self) -> None:
        while True:
            last = self._closing.wait(self._pause_s())
            view = self._newest
            if view is not None:
                try:
                    self._publish(view, last=last)
                except StoreUnavailable as error:
                    self._failures += 1
                    level = logging.WARNING if self._failures == 1 else logging.DEBUG
                    LOG.log(level, "the Prefect UI is not shown the session for now: %s", error)
                else:
                    if self._failures:
                        LOG.info("the Prefect UI is shown the session again")
                    self._failures = 0
            if last:
                return

    def _publish(self, view: LiveView, *, last: bool) -> None:
        while not self._arrived.empty():
            self._candles.append(self._arrived.get())
        title = f"{self._key.underlying} · {self._key.mode}"
        if self._controls is None and self._store is not None:
            self._controls = self._store.controls()
        page = render_position(self._key, view, self._controls, self._pages("chart", "trades"))
        self._put("markdown", "position", page, f"{title} · position, P&L, stop button (reload to renew)")
        self._put("progress", "progress", round(100 * min(1.0, max(0.0, view.progress)), 1), f"{title} · day")
        self._put("table", "trades", live_trade_rows(view), f"{title} · trades of today")
        chart_due = self._since_chart is None or self._since_chart.seconds >= self._chart_period_s
        if self._candles and (last or chart_due) and not self._abandoned.is_set():
            self._since_chart = Stopwatch()
            shown = f"{title} · {ist(view.at_ms):%d %b %Y %H:%M:%S}"
            picture = live_picture(shown, view, self._candles)
            png = self._charts.draw(shown, datasets(picture), picture.loss_limit_paise)
            if png is not None:
                back = "".join(
                    f"\n[{text}, P&L, stop button]({url})\n" for text, url in self._pages("position").items()
                )
                self._put("markdown", "chart", render_chart(png, shown) + back, f"{title} · chart")

    def _pages(self, *wanted: str) -> dict[str, str]:
        """Of the session's own artifacts, those that are there."""
        store = self._store
        found = {what: store.page(artifact_key(self._key, what)) for what in wanted} if store is not None else {}
        return {what: page for what, page in found.items() if page is not None}

    def _put(self, kind: str, what: str, content: object, description: str) -> None:
        key = artifact_key(self._key, what)
        if self._store is None or self._published.get(key) == content:
            return
        self._store.put(kind, key, content, description)
        self._published[key] = content

    def _pause_s(self) -> float:
        return min(RETRY_S_MAX, self._period_s * 2.0 ** min(self._failures, 10))


def _points(paise: int | None) -> str:
    return render_points(paise) if paise else "–"


def _rupees(paise: int | None) -> str:
    return "–" if paise is None else render_rupees(paise, signed=True)
