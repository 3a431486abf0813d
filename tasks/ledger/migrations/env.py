"""What Alembic runs to migrate: the connection comes from run.py, and all of it is one transaction."""

from alembic import context

from tasks.ledger.database import VERSION_TABLE
from tasks.ledger.migrations.run import is_compared
from tasks.ledger.tables import LedgerTable

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=LedgerTable.metadata,
    version_table=VERSION_TABLE,  # Prefect keeps its own in `alembic_version`
    compare_type=True,
    include_object=is_compared,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,  # also on SQLite, where run.py opens the transaction
)
context.run_migrations()
