"""The log file of a job: one JSON object a line, each with run, account, index and mode; and what every log must obey.

Prefect shows a run's own lines in its UI. This file keeps those and everybody else's beside it, for the day on which
the UI is away and for programs that read logs.

Invariants:
1. One process writes one file, so rotation never loses a line; `FILES_KEPT` old ones stay.
2. No handler of this process writes a secret of the settings, in a message or in a traceback (`Mask`).
3. The UI gets at most `LINES_PER_MINUTE_MAX` quiet lines a minute of a job; warnings and worse always, and what was
   left out is counted in the next line that is shown.
4. Nothing here raises into the job: a folder that cannot be written costs the file, not the day.
"""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import wraps
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, quote_plus, urlsplit

from prefect.settings import PREFECT_API_AUTH_STRING

from strategy.instruments import Underlying
from tasks.clock import ist
from tasks.connect import run_identity
from tasks.ledger.records import SessionKey
from tasks.settings import Settings

R = TypeVar("R")

FILE_BYTES_MAX = 20_000_000
FILE_PARTS = 4
FILES_KEPT = 60
LINES_PER_MINUTE_MAX = 600
# Shorter ones (a PIN) are replaced only where they stand alone: their digits occur in prices and ids.
ALONE_BELOW = 8
LOG = logging.getLogger(__name__)
# Whose lines `BOT_LOG_LEVEL` is about; libraries keep their own levels.
OURS = ("tasks", "flows", "strategy", "deployments", "bot")
# Where Prefect hangs its handlers.
_HOOKS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.extra")


class Mask(logging.Filter):
    """Replaces secrets in whatever passes, tracebacks too."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        found = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
        parts = [
            rf"(?<![0-9A-Za-z]){re.escape(text)}(?![0-9A-Za-z])" if len(text) < ALONE_BELOW else re.escape(text)
            for text in sorted(found, key=len, reverse=True)
        ]
        self._pattern = re.compile("|".join(parts)) if parts else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        return self._pattern.sub("***", text) if self._pattern else text

    def filter(self, record: logging.LogRecord) -> bool:
        """Always passes; the record loses what is secret in it."""
        if self._pattern is None:
            return True
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the writer's mistake; logging itself reports it
            return True
        if (masked := self.text(message)) != message:
            record.msg, record.args = masked, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.text(record.exc_text)
        return True


class Bound(logging.Filter):
    """Lets so many quiet lines a minute through."""

    def __init__(self, per_minute: int = LINES_PER_MINUTE_MAX) -> None:
        super().__init__()
        self._per_minute = per_minute
        self._minute = 0
        self._passed = 0
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """False: it is one too many in its minute."""
        minute = int(record.created // 60)
        if minute != self._minute:
            self._minute, self._passed = minute, 0
        if record.levelno < logging.WARNING:
            self._passed += 1
            if self._passed > self._per_minute:
                self._left_out += 1
                return False
        if self._left_out:
            record.msg = f"{record.getMessage()}  ({self._left_out} lines before this one are only in the log file)"
            record.args = ()
            self._left_out = 0
        return True


class JsonLines(logging.Formatter):
    """A record as one JSON object; `about` stands on each line."""

    def __init__(self, about: dict[str, str]) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """Time in India with its offset; the traceback as one text."""
        line = {
            "at": ist(round(record.created * 1000)).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            **self._about,
            "logger": record.name,
            "thread": record.threadName,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line, ensure_ascii=False)


@contextmanager
def keeping_log(settings: Settings, *, job: str, run_id: str, session: SessionKey | None = None) -> Iterator[Path]:
    """While inside, everything logged also goes to a file of this job; yields its path.

    `job` is a word for the file's name, such as "session".
    """
    about = {"job": job, "run": run_id}
    words = [job]
    if session is not None:
        about |= {
            "account": session.account,
            "index": str(session.underlying),
            "mode": session.mode,
            "day": session.day.isoformat(),
        }
        words = [session.day.isoformat(), str(session.underlying), session.mode, job]
    path = settings.home / "logs" / f"{'-'.join(words)}-{run_id[:8]}.jsonl".lower()
    mask, bound = Mask(secrets_of(settings)), Bound()
    handlers: dict[logging.Handler, list[logging.Filter]] = {
        handler: [mask] for name in _HOOKS for handler in logging.getLogger(name).handlers
    }
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            handlers[handler] = [mask, bound]
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in OURS}
    file = _file(path, about)
    # Where a line's way up ends: the root, and Prefect's own loggers, which pass nothing on once it has set them up.
    ends = [logging.getLogger(name) for name in _HOOKS if not name or not logging.getLogger(name).propagate]
    try:
        if file is not None:
            file.addFilter(mask)
            for end in ends:
                end.addHandler(file)
        for handler, filters in handlers.items():
            for one in filters:
                handler.addFilter(one)
        for logger in levels:
            logger.setLevel(settings.log_level)
        yield path
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        for handler, filters in handlers.items():
            for one in filters:
                handler.removeFilter(one)
        if file is not None:
            for end in ends:
                end.removeHandler(file)
            file.close()


def logged(job: str) -> Callable[[Callable[[str], R]], Callable[[str], R]]:
    """A job of the evening, called with a session's id, keeps its log; see `keeping_log`."""

    def keeping(work: Callable[[str], R]) -> Callable[[str], R]:
        @wraps(work)
        def kept(session_id: str) -> R:
            day, underlying, mode, account = session_id.split("/")
            key = SessionKey(account=account, underlying=Underlying(underlying), mode=mode, day=date.fromisoformat(day))
            with keeping_log(Settings(), job=job, run_id=run_identity(), session=key):
                return work(session_id)

        return kept

    return keeping


def secrets_of(settings: Settings) -> list[str]:
    """What no log may show: credentials, passwords in addresses, notification addresses."""
    secrets = [
        settings.dhan_access_token.get_secret_value(),
        settings.dhan_pin.get_secret_value(),
        settings.dhan_totp_secret.get_secret_value(),
        urlsplit(settings.ledger_url).password or "",
    ]
    auth = PREFECT_API_AUTH_STRING.value()
    text = str(auth.get_secret_value() if hasattr(auth, "get_secret_value") else auth or "")
    secrets += [text, text.partition(":")[2]]
    for url in settings.notify_urls:
        whole = url.get_secret_value()
        secrets += [whole, urlsplit(whole.partition("=")[2] or whole).password or "", urlsplit(whole).password or ""]
    return secrets


def _file(path: Path, about: dict[str, str]) -> RotatingFileHandler | None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = RotatingFileHandler(path, maxBytes=FILE_BYTES_MAX, backupCount=FILE_PARTS - 1, encoding="utf-8")
        path.chmod(0o600)
        for old in sorted(path.parent.glob("*.jsonl*"), key=lambda found: found.stat().st_mtime)[:-FILES_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as fault:
        LOG.warning("no log file: %s cannot be written: %s; the UI and the worker's output have the log", path, fault)
        return None
    file.setFormatter(JsonLines(about))
    return file


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    if len(secret) >= ALONE_BELOW:
        yield quote(secret, safe="")
        yield quote_plus(secret)
        yield base64.b64encode(secret.encode()).decode()
