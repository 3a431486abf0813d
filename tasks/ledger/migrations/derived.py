"""The views of schema 0001: every number of a day's summary is one query away, on both databases.

* `trade`: a round trip, bought and sold by the fills of its intents; open while less is sold than bought.
  A trade without a purchase (an unknown position that was flattened) is not one: its cost is not known here.
  The reason is that of the first exit that filled. Charges are the newest revision of each order's.
* `day_total`: a session in one row. P&L is that of closed trades; charges are those of all trades.

Money is paise. SUM gives NUMERIC on PostgreSQL, hence the casts.
"""

TRADE = """
CREATE VIEW trade AS
WITH charged AS (
    SELECT c.client_order_id,
        c.brokerage_paise + c.stt_paise + c.exchange_paise
            + c.sebi_paise + c.stamp_paise + c.gst_paise AS paise
    FROM charge c
    WHERE NOT EXISTS (
        SELECT 1 FROM charge newer
        WHERE newer.client_order_id = c.client_order_id AND newer.revision > c.revision
    )
),
filled AS (
    SELECT client_order_id, SUM(quantity) AS quantity, SUM(value_paise) AS value_paise,
        MIN(at) AS first_at, MAX(at) AS last_at
    FROM fill
    GROUP BY client_order_id
),
bought AS (
    SELECT i.session_id, i.trade, MIN(i.intent) AS first_intent,
        SUM(f.quantity) AS quantity, SUM(f.value_paise) AS value_paise, MIN(f.first_at) AS first_at
    FROM intent i
    JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent
    JOIN filled f ON f.client_order_id = o.client_order_id
    WHERE i.side = 'BUY'
    GROUP BY i.session_id, i.trade
),
sold AS (
    SELECT i.session_id, i.trade, MIN(i.intent) AS first_intent,
        SUM(f.quantity) AS quantity, SUM(f.value_paise) AS value_paise, MAX(f.last_at) AS last_at
    FROM intent i
    JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent
    JOIN filled f ON f.client_order_id = o.client_order_id
    WHERE i.side = 'SELL'
    GROUP BY i.session_id, i.trade
),
costs AS (
    SELECT i.session_id, i.trade, SUM(c.paise) AS paise
    FROM intent i
    JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent
    JOIN charged c ON c.client_order_id = o.client_order_id
    GROUP BY i.session_id, i.trade
)
SELECT
    b.session_id,
    b.trade,
    s.account,
    s.underlying,
    s.mode,
    s.day,
    entry.contract_name,
    entry.trading_symbol,
    entry.security,
    entry.option_type,
    entry.strike_points,
    entry.expiry,
    entry.lot_size,
    CAST(b.quantity AS BIGINT) AS quantity,
    CAST(b.quantity - COALESCE(sold.quantity, 0) AS BIGINT) AS open_quantity,
    b.first_at AS entry_at,
    CASE WHEN sold.quantity >= b.quantity THEN sold.last_at END AS exit_at,
    CAST(b.value_paise AS BIGINT) AS buy_value_paise,
    CAST(COALESCE(sold.value_paise, 0) AS BIGINT) AS sell_value_paise,
    entry.reference_paise AS entry_reference_paise,
    leaving.reference_paise AS exit_reference_paise,
    leaving.reason AS exit_reason,
    CAST(COALESCE(sold.value_paise, 0) - b.value_paise AS BIGINT) AS gross_paise,
    CAST(COALESCE(costs.paise, 0) AS BIGINT) AS charges_paise,
    CAST(COALESCE(sold.value_paise, 0) - b.value_paise - COALESCE(costs.paise, 0) AS BIGINT) AS net_paise,
    entry.why AS why_entry,
    leaving.why AS why_exit
FROM bought b
JOIN session s ON s.session_id = b.session_id
JOIN intent entry ON entry.session_id = b.session_id AND entry.intent = b.first_intent
LEFT JOIN sold ON sold.session_id = b.session_id AND sold.trade = b.trade
LEFT JOIN intent leaving ON leaving.session_id = sold.session_id AND leaving.intent = sold.first_intent
LEFT JOIN costs ON costs.session_id = b.session_id AND costs.trade = b.trade
"""

DAY_TOTAL = """
CREATE VIEW day_total AS
SELECT
    s.session_id,
    s.account,
    s.underlying,
    s.mode,
    s.day,
    COUNT(t.trade) AS trades,
    COUNT(t.exit_at) AS closed_trades,
    COUNT(CASE WHEN t.exit_at IS NOT NULL AND t.net_paise > 0 THEN 1 END) AS winners,
    COUNT(CASE WHEN t.exit_at IS NOT NULL AND t.net_paise <= 0 THEN 1 END) AS losers,
    CAST(COALESCE(SUM(t.quantity), 0) AS BIGINT) AS quantity,
    CAST(COALESCE(SUM(t.open_quantity), 0) AS BIGINT) AS open_quantity,
    CAST(COALESCE(SUM(t.buy_value_paise), 0) AS BIGINT) AS buy_value_paise,
    CAST(COALESCE(SUM(t.sell_value_paise), 0) AS BIGINT) AS sell_value_paise,
    CAST(COALESCE(SUM(CASE WHEN t.exit_at IS NOT NULL THEN t.gross_paise END), 0) AS BIGINT) AS gross_paise,
    CAST(COALESCE(SUM(t.charges_paise), 0) AS BIGINT) AS charges_paise,
    CAST(
        COALESCE(SUM(CASE WHEN t.exit_at IS NOT NULL THEN t.gross_paise END), 0)
        - COALESCE(SUM(t.charges_paise), 0) AS BIGINT
    ) AS net_paise,
    MIN(t.entry_at) AS first_entry_at,
    MAX(t.exit_at) AS last_exit_at
FROM session s
LEFT JOIN trade t ON t.session_id = s.session_id
GROUP BY s.session_id, s.account, s.underlying, s.mode, s.day
"""

VIEWS = {"trade": TRADE, "day_total": DAY_TOTAL}  # in the order of creation
