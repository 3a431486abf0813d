"""The views of schema 0001: every number of a day's summary is one query away, on both databases.

* `trade`: a round trip, bought and sold by the fills of its intents; open while less is sold than bought.
  A trade without a purchase (an unknown position that was flattened) is not one: its cost is not known here.
  The reason is that of the first exit that filled. Charges are the newest revision of each order's.
* `day_total`: a session in one row. P&L is that of closed trades; charges are those of all trades.

Money is paise. SUM gives NUMERIC on PostgreSQL, hence the casts.
"""

TRADE = """
CREATE VIEW trade AS
WITH moved AS (
    SELECT
        i.session_id,
        i.trade,
        MIN(CASE WHEN i.side = 'BUY' THEN i.intent END) AS entry_intent,
        MIN(CASE WHEN i.side = 'SELL' THEN i.intent END) AS exit_intent,
        MIN(CASE WHEN i.side = 'BUY' THEN f.at END) AS entry_at,
        MAX(CASE WHEN i.side = 'SELL' THEN f.at END) AS last_sold_at,
        CAST(SUM(CASE WHEN i.side = 'BUY' THEN f.quantity ELSE 0 END) AS BIGINT) AS bought,
        CAST(SUM(CASE WHEN i.side = 'SELL' THEN f.quantity ELSE 0 END) AS BIGINT) AS sold,
        CAST(SUM(CASE WHEN i.side = 'BUY' THEN f.value_paise ELSE 0 END) AS BIGINT) AS buy_value_paise,
        CAST(SUM(CASE WHEN i.side = 'SELL' THEN f.value_paise ELSE 0 END) AS BIGINT) AS sell_value_paise
    FROM intent i
    JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent
    JOIN fill f ON f.client_order_id = o.client_order_id
    GROUP BY i.session_id, i.trade
),
costed AS (
    SELECT m.*, CAST(COALESCE((
        SELECT SUM(c.brokerage_paise + c.stt_paise + c.exchange_paise + c.sebi_paise + c.stamp_paise + c.gst_paise)
        FROM intent i
        JOIN client_order o ON o.session_id = i.session_id AND o.intent = i.intent
        JOIN charge c ON c.client_order_id = o.client_order_id
        WHERE i.session_id = m.session_id AND i.trade = m.trade
            AND c.revision = (SELECT MAX(r.revision) FROM charge r WHERE r.client_order_id = c.client_order_id)
    ), 0) AS BIGINT) AS charges_paise
    FROM moved m
    WHERE m.bought > 0
)
SELECT
    t.session_id,
    t.trade,
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
    t.bought AS quantity,
    t.bought - t.sold AS open_quantity,
    t.entry_at,
    CASE WHEN t.sold >= t.bought THEN t.last_sold_at END AS exit_at,
    t.buy_value_paise,
    t.sell_value_paise,
    entry.reference_paise AS entry_reference_paise,
    leaving.reference_paise AS exit_reference_paise,
    leaving.reason AS exit_reason,
    t.sell_value_paise - t.buy_value_paise AS gross_paise,
    t.charges_paise,
    t.sell_value_paise - t.buy_value_paise - t.charges_paise AS net_paise,
    entry.why AS why_entry,
    leaving.why AS why_exit
FROM costed t
JOIN session s ON s.session_id = t.session_id
JOIN intent entry ON entry.session_id = t.session_id AND entry.intent = t.entry_intent
LEFT JOIN intent leaving ON leaving.session_id = t.session_id AND leaving.intent = t.exit_intent
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
