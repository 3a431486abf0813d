"""A sweep as a page: the heat map of two settings, the ranking, and the warning above both."""

import base64
import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import altair as alt
import jinja2
import vl_convert

from tasks.backtest.ranking import Ranking, render_months, render_ranking, render_whole

ROWS_SHOWN = 100


def write_sweep(ranking: Ranking, home: Path, name: str, words: Sequence[str] = ()) -> Path:
    """Write the page, the heat map and the whole ranking below `home`/sweeps; return the page."""
    folder = home / "sweeps" / name
    folder.mkdir(parents=True, exist_ok=True)
    png = vl_convert.vegalite_to_png(vl_spec=heat_map(ranking) | {"background": "white", "padding": 12}, scale=1.5)
    (folder / "heat.png").write_bytes(png)
    (folder / "ranking.csv").write_text(render_csv(ranking), encoding="utf-8")
    head, *rows = render_ranking(ranking, most=ROWS_SHOWN)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    months, nets = render_months(ranking)
    page = folder / "sweep.html"
    page.write_text(
        environment.get_template("sweep.html.j2").render(
            name=name,
            ranking=ranking,
            words=words,
            head=head,
            rows=rows,
            months=months,
            monthly=[(row[: len(ranking.axes)], net) for row, net in zip(rows, nets, strict=False)],
            whole=render_whole,
            others=len(ranking.axes) - 2,
            picture=base64.b64encode(png).decode("ascii"),
        ),
        encoding="utf-8",
    )
    return page


def heat_map(ranking: Ranking) -> dict[str, Any]:
    """Net P&L over the two longest axes; the median of what the other settings make of each place."""
    across, up = _two_longest(ranking.axes)
    places: dict[tuple[Any, Any], list[int]] = {}
    for row in ranking.rows:
        places.setdefault((row.chosen[across], row.chosen.get(up)), []).append(row.outcome.net_paise)
    rows: list[dict[str, Any]] = [
        {"across": str(x), "up": str(y), "net": median(nets) / 100, "tried": len(nets)}
        for (x, y), nets in places.items()
    ]
    order = {name: [str(value) for value in ranking.axes.get(name, (None,))] for name in (across, up)}
    cells = alt.Chart(alt.NamedData("places")).encode(
        x=alt.X("across:N", title=across, sort=order[across]), y=alt.Y("up:N", title=up or "", sort=order[up][::-1])
    )
    # Both ends as far from zero: a smaller loss is never green.
    most = max((abs(row["net"]) for row in rows), default=0) or 1
    scale = alt.Scale(scheme="redyellowgreen", domain=[-most, most])
    colour = alt.Color("net:Q", title="INR, net (median)", scale=scale)
    chart = alt.layer(
        cells.mark_rect().encode(color=colour),
        cells.mark_text(fontSize=10).encode(text=alt.Text("net:Q", format=",.0f")),
    )
    spec: dict[str, Any] = chart.properties(width=700, height=350).to_dict()
    return spec | {"datasets": {"places": rows}}


def render_csv(ranking: Ranking) -> str:
    """Every combination with plain numbers, the best first."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ("days", "trades", "wins", "gross_paise", "charges_paise", "net_paise", "drawdown_paise",
               "profit_factor", "p_value", "sharpe")  # fmt: skip
    more = ("neighbours", "neighbours_winning", "neighbours_net_paise", "months", "months_winning", "best_month_share",
            "believable")  # fmt: skip
    months = sorted({month for row in ranking.rows for month in row.outcome.months})
    writer.writerow([*ranking.axes, *numbers, *more, *months])
    for row in ranking.rows:
        writer.writerow(
            [
                *(row.chosen[name] for name in ranking.axes),
                *(getattr(row.outcome, name) for name in numbers),
                *(getattr(row, name) for name in more),
                *(row.outcome.months.get(month, 0) for month in months),
            ]
        )
    return text.getvalue()


def _two_longest(axes: Mapping[str, tuple[Any, ...]]) -> tuple[str, str]:
    names = sorted(axes, key=lambda name: -len(axes[name]))
    return names[0], names[1] if len(names) > 1 else ""
