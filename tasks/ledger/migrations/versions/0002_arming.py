"""Which days and indices the operator armed for real money, and with which settings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlmodel import UTCDateTime

from tasks.ledger.migrations.history import postgres_history, sqlite_history

revision = "0002"
down_revision = "0001"

DETAIL = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Create the table; it is history from its first row on."""
    op.create_table(
        "arming",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("underlying", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("armed", sa.Boolean(), nullable=False),
        sa.Column("params", DETAIL, nullable=False),
        sa.Column("armed_by", sa.String(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.CheckConstraint("number > 0", name=op.f("ck_arming_number_positive")),
        sa.PrimaryKeyConstraint("account", "underlying", "day", "number", name=op.f("pk_arming")),
        sqlite_with_rowid=False,
    )
    sqlite = op.get_context().dialect.name == "sqlite"
    for trigger in sqlite_history(["arming"]) if sqlite else postgres_history(["arming"]):
        op.execute(trigger)


def downgrade() -> None:
    """Drop the table; nothing is armed then."""
    op.drop_table("arming")
