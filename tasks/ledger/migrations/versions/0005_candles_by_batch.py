"""On PostgreSQL the session of candles is asked for once per statement instead of once per candle.

A foreign key there is a query per row, and took two thirds of the time of a day's batch. The trigger refuses a candle
without a session with the same error; that a session never goes or changes its id is what keeps history anyway. SQLite
looks into the tree that it has open, which costs little, and keeps its foreign key.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

# The path is fixed, because a restored backup loads rows with an empty one.
FUNCTION = """
CREATE FUNCTION ledger_candles_have_sessions() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    missing text;
BEGIN
    SELECT a.session_id INTO missing FROM (SELECT DISTINCT session_id FROM arrived) a
        WHERE NOT EXISTS (SELECT 1 FROM session s WHERE s.session_id = a.session_id) LIMIT 1;
    IF FOUND THEN
        RAISE foreign_key_violation USING MESSAGE =
            format('a candle violates the constraint that its session is known: there is no session %s', missing);
    END IF;
    RETURN NULL;
END $$
"""
TRIGGER = (
    "CREATE TRIGGER candles_have_sessions AFTER INSERT ON candle REFERENCING NEW TABLE AS arrived"
    " FOR EACH STATEMENT EXECUTE FUNCTION ledger_candles_have_sessions()"
)


def upgrade() -> None:
    """Ask by statement."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(FUNCTION)
        op.execute(TRIGGER)
        op.drop_constraint(op.f("fk_candle_session_id"), "candle", type_="foreignkey")


def downgrade() -> None:
    """Ask by row again; the candles that are there are asked about as well."""
    if op.get_context().dialect.name == "postgresql":
        op.create_foreign_key(op.f("fk_candle_session_id"), "candle", "session", ["session_id"], ["session_id"])
        op.execute("DROP TRIGGER candles_have_sessions ON candle")
        op.execute("DROP FUNCTION ledger_candles_have_sessions()")
