"""Commands that look after the machine: the ledger's database, backups, and whether people can be reached."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

PREFECT_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"

ledger_app = App(name="ledger", help="Look after the ledger's database.")
notify_app = App(name="notify", help="Look after the alerts.")


def register(app: App) -> None:
    """Add the commands to `bot`."""
    app.command(backup)
    app.command(restore)
    app.command(ledger_app)
    app.command(notify_app)


def backup(*, to: Path | None = None, keep: int = 30) -> int:
    """Back up the ledger, and the Prefect server's database where its URL is known; each file is read back.

    Args:
        to: the folder; `backups` in BOT_HOME if not given. Copy it to another machine as well.
        keep: so many of each are kept.
    """
    from deployments.backup import BackupFailed, back_up
    from tasks.settings import Settings

    settings = Settings()
    folder = to or settings.home / "backups"
    urls = {"ledger": settings.ledger_url, "prefect": os.environ.get(PREFECT_DATABASE, "")}
    failed = False
    for name, url in urls.items():
        if url:
            try:
                print(f"{name}: {back_up(url, folder, name, kept=max(1, keep))}")
            except BackupFailed as why:
                print(f"{name}: NOT BACKED UP: {why}")
                failed = True
    return 1 if failed else 0


def restore(file: Path, *, prefect: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Bring a backup into the empty database that BOT_LEDGER_URL names, bring it up to date and check it.

    Args:
        file: what `bot backup` wrote.
        prefect: the Prefect server's database instead, which PREFECT_SERVER_DATABASE_CONNECTION_URL names; the server
            must not run meanwhile.
    """
    from deployments.backup import BackupFailed, restore_ledger
    from deployments.backup import restore as restore_as_it_was
    from tasks.connect import open_ledger
    from tasks.ledger.check import check
    from tasks.settings import Settings

    settings = Settings()
    try:
        if prefect:
            if not os.environ.get(PREFECT_DATABASE):
                print(f"{PREFECT_DATABASE} must name the new database, found nothing.")
                return 2
            restore_as_it_was(file, os.environ[PREFECT_DATABASE])
            print(f"{file} is restored; start the Prefect server.")
            return 0
        restore_ledger(file, settings.ledger_url)
    except BackupFailed as why:
        print(why)
        return 1
    with open_ledger(settings) as ledger:
        violations = check(ledger)
        print(f"{file} is restored to {ledger.place}")
    for violation in violations:
        print(violation)
    print("the ledger is sound" if not violations else f"{len(violations)} violations")
    return 1 if violations else 0


@notify_app.command(name="test")
def notify_test() -> int:
    """Send one alert of every kind to whoever would get it, and say who took what."""
    from collections import Counter

    from tasks.clock import real_now_ms
    from tasks.connect import open_notifier
    from tasks.notify.samples import samples
    from tasks.settings import Settings

    with open_notifier(Settings()) as notifier:
        if not notifier.targets:
            print("BOT_NOTIFY_URLS names nobody, so nobody was told. Set it, then run this again.")
            return 1
        taken: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        for notice in samples(real_now_ms()):
            for name, took in notifier.check(notice, routed=True).items():
                asked[name] += 1
                taken[name] += took
                if not took:
                    print(f"{name} did not take: {notice.kind}")
    for name, count in asked.items():
        print(f"{name}: {taken[name]} of {count} kinds arrived")
    return 0 if taken == asked else 1


@ledger_app.command(name="migrate")
def ledger_migrate() -> int:
    """Bring the ledger's database to the schema of this version."""
    from tasks.ledger.store import migrate
    from tasks.settings import Settings

    migrate(Settings().ledger_url)
    return 0


@ledger_app.command(name="check")
def ledger_check() -> int:
    """Verify every invariant of the ledger and say what is wrong."""
    from tasks.connect import open_ledger
    from tasks.ledger.check import check

    with open_ledger() as ledger:
        violations = check(ledger)
    for violation in violations:
        print(violation)
    print("the ledger is sound" if not violations else f"{len(violations)} violations")
    return 1 if violations else 0
