"""The schema that the migrations make is the one that the models say, on both databases, up and down, with data in it."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from strategy.events import Side, Tick
from tasks.ledger import LedgerUnavailable
from tasks.ledger.check import check
from tasks.ledger.database import SCHEMA_REVISION, VERSION_TABLE
from tasks.ledger.migrations.derived import VIEWS
from tasks.ledger.migrations.run import configuration, connected, downgrade, is_compared, migrate
from tasks.ledger.tables import LedgerTable


def constraints(url: str) -> dict[str, object]:
    """Everything that Alembic's comparison does not look at, by table."""
    with connected(url) as connection:
        inspector = sa.inspect(connection)
        return {
            table: (
                sorted((check["name"], normal(check["sqltext"])) for check in inspector.get_check_constraints(table)),
                sorted(unique["name"] for unique in inspector.get_unique_constraints(table)),
                sorted(
                    (key["name"], *key["constrained_columns"], key["referred_table"], *key["referred_columns"])
                    for key in inspector.get_foreign_keys(table)
                ),
                inspector.get_pk_constraint(table)["constrained_columns"],
                [(column["name"], column["nullable"], str(column["type"])) for column in inspector.get_columns(table)],
            )
            for table in inspector.get_table_names()
            if table != VERSION_TABLE
        }


def normal(text: str) -> str:
    return "".join(text.split()).replace("(", "").replace(")", "")


def objects(url: str) -> set[str]:
    """Tables, views, triggers and functions of ours."""
    with connected(url) as connection:
        if url.startswith("sqlite"):
            return set(connection.scalars(sa.text("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")))
        return set(
            connection.scalars(
                sa.text(
                    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                    " UNION SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
                    " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
                )
            )
        )


def test_the_migrated_schema_is_that_of_the_models(ledger_url):
    with connected(ledger_url) as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "include_object": is_compared}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, LedgerTable.metadata) == []


@pytest.fixture
def models_url(ledger_url, tmp_path, request):
    """A schema made from the models, on the same kind of database as `ledger_url`."""
    sqlite = ledger_url.startswith("sqlite")
    url = f"sqlite:///{tmp_path / 'models.sqlite'}" if sqlite else request.getfixturevalue("postgres_url")
    with connected(url) as connection:
        LedgerTable.metadata.create_all(connection)
    return url


def test_every_constraint_of_the_models_is_in_the_migration(ledger_url, models_url):
    """Alembic does not see a changed CHECK, so the constraints are compared one by one."""
    found, expected = constraints(ledger_url), constraints(models_url)
    assert set(expected) == set(LedgerTable.metadata.tables)
    assert found == expected


def test_sqlite_keeps_each_table_with_a_natural_key_as_one_tree(sqlite_ledger_url):
    with connected(sqlite_ledger_url) as connection:
        found = dict(
            connection.execute(
                sa.text("SELECT name, sql LIKE '%WITHOUT ROWID%' FROM sqlite_master WHERE type = 'table'")
            ).all()
        )
    for name, table in LedgerTable.metadata.tables.items():
        assert bool(found[name]) is not table.dialect_options["sqlite"]["with_rowid"], name


def test_the_code_is_written_for_the_newest_revision(sqlite_ledger_url):
    with connected(sqlite_ledger_url) as connection:
        heads = ScriptDirectory.from_config(configuration(connection)).get_heads()
    assert heads == [SCHEMA_REVISION]


def test_migrating_twice_changes_nothing(ledger_url, open_ledger, day):
    ledger = open_ledger(ledger_url)
    ledger.open_session(day.key, day.salt)
    before = objects(ledger_url)
    migrate(ledger_url)
    assert objects(ledger_url) == before
    assert ledger.session_ids() == (day.session_id,)


def test_down_and_up_again_with_a_day_in_it(ledger_url, open_ledger, day):
    """Down leaves nothing behind, so that up works again; the triggers that keep history do not stand in the way."""
    ledger = open_ledger(ledger_url)
    ledger.open_session(day.key, day.salt)
    ledger.leases.take(day.key, "x", day.at())
    ledger.record_intent(day.intent(1))
    ledger.record_fill(day.fill(1))
    ledger.record_candles([day.candle(number) for number in range(100)])
    ledger.close()
    before = objects(ledger_url)
    downgrade(ledger_url, "base")
    assert {name for name in objects(ledger_url) if VERSION_TABLE not in name} == set()
    with pytest.raises(LedgerUnavailable, match="found none"):
        open_ledger(ledger_url)
    migrate(ledger_url)
    assert objects(ledger_url) == before
    assert open_ledger(ledger_url).session_ids() == ()


def rows_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, in some order that is always the same."""
    with connected(url) as connection:
        tables = [name for name in sa.inspect(connection).get_table_names() if name != VERSION_TABLE]
        return {
            name: sorted(map(tuple, connection.execute(sa.text(f"SELECT * FROM {name}"))), key=repr) for name in tables
        }


def test_each_revision_goes_down_and_up_and_takes_a_day_along(ledger_url, open_ledger, day):
    """What a table holds stays as long as there is the table, revision by revision; a trader's history is not remade."""
    ledger = open_ledger(ledger_url)
    ledger.open_session(day.key, day.salt)
    ledger.leases.take(day.key, "x", day.at())
    ledger.record_start(day.start())
    for number, side in ((1, Side.BUY), (2, Side.SELL)):
        ledger.record_intent(day.intent(number, side, trade=1))
        ledger.record_order_event(day.event(number))
        ledger.record_fill(day.fill(number))
    ledger.record_charges([day.charge(1), day.charge(2)])
    ledger.record_candles([day.candle(number) for number in range(10)])
    ledger.record_ticks(day.session_id, [Tick(at_ms=day.at(1), security="IDX_I:13", price_paise=26_000_00)])
    trades = ledger.trades(day.session_id)
    ledger.close()
    made, kept = objects(ledger_url), rows_of(ledger_url)
    with connected(ledger_url) as connection:
        revisions = [
            script.revision for script in ScriptDirectory.from_config(configuration(connection)).walk_revisions()
        ]
    for older in revisions[1:]:
        downgrade(ledger_url, older)
        left = rows_of(ledger_url)
        assert left == {name: kept[name] for name in left}, f"down to {older}"
    for newer in reversed(revisions[:-1]):
        migrate(ledger_url, newer)
    assert objects(ledger_url) == made, "tables, views and the triggers that keep history are as they were"
    assert {name: rows for name, rows in rows_of(ledger_url).items() if rows} == {n: r for n, r in kept.items() if r}
    again = open_ledger(ledger_url)
    assert again.trades(day.session_id) == trades
    assert check(again, now_ms=day.at(10)) == ()


def test_prefects_own_version_table_is_left_alone(empty_url, alter):
    """Prefect keeps its schema's version in `alembic_version`; in a shared database both go their own way."""
    alter(
        empty_url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('prefect')",
    )
    migrate(empty_url)
    downgrade(empty_url, "base")
    with connected(empty_url) as connection:
        assert connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all() == ["prefect"]


def test_views_answer_in_both_databases(ledger_url, open_ledger):
    ledger = open_ledger(ledger_url)
    for view in VIEWS:
        assert ledger.rows(f"SELECT * FROM {view}") == []


MIGRATE = "import sys; from tasks.ledger.store import migrate; migrate(sys.argv[1])"


def test_processes_that_migrate_together_do_not_collide(empty_url, open_ledger):
    """Two deployments start on a new machine at the same moment."""
    together = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, empty_url], cwd=Path(__file__).parents[2]) for _ in range(2)
    ]
    assert [process.wait(200) for process in together] == [0, 0]
    assert open_ledger(empty_url).session_ids() == ()


def test_a_database_that_cannot_be_reached_is_unavailable_without_its_password():
    with pytest.raises(LedgerUnavailable, match="could not be migrated") as unavailable:
        migrate("postgresql+psycopg://bot:secret@127.0.0.1:9/ledger")
    assert "secret" not in str(unavailable.value)


def test_a_new_sqlite_ledger_is_for_its_owner_only(tmp_path):
    path = tmp_path / "new" / "ledger.sqlite"
    migrate(f"sqlite:///{path}")
    assert path.stat().st_mode & 0o777 == 0o600
