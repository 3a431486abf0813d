"""What the rules heard beside ticks, so that a day can be replayed exactly."""

import sqlalchemy as sa
from alembic import op

from tasks.ledger.migrations.history import postgres_history, sqlite_history

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table; it is history from its first row on."""
    op.create_table(
        "heard",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("events", sa.String(), nullable=False),
        sa.CheckConstraint("number >= 0", name=op.f("ck_heard_number_counts_up")),
        sa.ForeignKeyConstraint(["session_id"], ["session.session_id"], name=op.f("fk_heard_session_id")),
        sa.PrimaryKeyConstraint("session_id", "fence", "number", name=op.f("pk_heard")),
        sqlite_with_rowid=False,
    )
    sqlite = op.get_context().dialect.name == "sqlite"
    for trigger in sqlite_history(["heard"]) if sqlite else postgres_history(["heard"]):
        op.execute(trigger)


def downgrade() -> None:
    """Drop the table; the days recorded in it can no longer be replayed."""
    op.drop_table("heard")
