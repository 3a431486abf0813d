"""Where notices go: one Apprise service behind one URL, and what it wants to hear.

A target is written as `[words=]url`; the words say what goes there, nothing means everything:

    tgram://123456:ABC/789                      everything
    trades,risk=tgram://123456:ABC/789          these topics (trades, risk, operations, reports)
    warning=mailto://...                        warnings and critical notices of all topics
    reports,operations,warning=mailto://...     warnings and critical ones of these topics

Critical notices go to every target. The URL is a secret: a target is called by its service and its place in
the list, and what Apprise or urllib3 log about it is masked.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import apprise
from apprise.attachment.memory import AttachMemory

from strategy.actions import Severity
from tasks.notify.notice import LOUDNESS, Notice, Topic, plain_to_html

# Apprise's mail service imports a module that Python 3.13 dropped and that 3.11 and 3.12 announce loudly.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from apprise.plugins.email import NotifyEmail

# Services whose URL names a server of the operator's: its name helps in a log and is no secret.
_NAMES_A_SERVER = {"json", "jsons", "form", "forms", "xml", "xmls", "mailto", "mailtos"}
_SECRET_LENGTH_MIN = 6
_WORDS = re.compile(r"^(?P<words>[A-Za-z, ]+)=(?P<url>[A-Za-z][A-Za-z0-9+.-]*://.*)$", re.DOTALL)
_TYPES = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}


class Target:
    """One service; `send` talks to it and may take as long as the service's time-outs allow."""

    def __init__(self, *, name: str, key: str, topics: frozenset[Topic], least: Severity, service: Any) -> None:
        self.name = name
        self.key = key  # the same over restarts, and not the URL
        self.topics = topics
        self.least = least
        self._service = service
        self._box = apprise.Apprise(asset=service.asset)
        self._box.add(service)

    def __repr__(self) -> str:
        return f"Target({self.name}, {'+'.join(sorted(self.topics))}, from {self.least})"

    def wants(self, notice: Notice) -> bool:
        """Whether the notice goes here."""
        if notice.is_critical:
            return True
        return notice.topic in self.topics and LOUDNESS[notice.severity] >= LOUDNESS[self.least]

    def send(self, notice: Notice, *, with_files: bool = True) -> bool:
        """Deliver once. False: the service did not take it (its own words are in the log)."""
        body, body_format = notice.body or notice.title, apprise.NotifyFormat.TEXT
        if isinstance(self._service, NotifyEmail):
            # Apprise's own HTML of plain text has no blanks to wrap at.
            own = notice.html if with_files else None
            body, body_format = own or plain_to_html(body), apprise.NotifyFormat.HTML
        files = [
            AttachMemory(content=attachment.content, name=attachment.name, mimetype=attachment.media_type)
            for attachment in notice.attachments
            if with_files
        ]
        sent = self._box.notify(
            body=body,
            title=notice.title,
            notify_type=_TYPES[notice.severity],
            body_format=body_format,
            attach=files or None,
        )
        return bool(sent)


def parse_targets(lines: Iterable[str]) -> tuple[Target, ...]:
    """All targets of settings lines; blank ones are skipped. ValueError names the place, not the URL."""
    return tuple(parse_target(line.strip(), place) for place, line in enumerate(lines, start=1) if line.strip())


def parse_target(line: str, place: int = 1) -> Target:
    """One settings line as a target. ValueError names the place in the list, never the URL."""
    found = _WORDS.match(line)
    words = [word.strip().lower() for word in found["words"].split(",") if word.strip()] if found else []
    url = found["url"] if found else line
    topics, levels = [], []
    for word in words:
        if word in set(Topic):
            topics.append(Topic(word))
        elif word in set(Severity):
            levels.append(Severity(word))
        else:
            known = ", ".join([*Topic, *Severity])
            raise ValueError(f"notification target {place}: expected words of ({known}) before '=', found {word!r}")
    if len(levels) > 1:
        raise ValueError(f"notification target {place}: expected one severity at most, found {len(levels)}")
    service = _service(url, place)
    return Target(
        name=f"{service.service_name} (target {place})",
        key=hashlib.sha256(line.encode()).hexdigest()[:16],
        topics=frozenset(topics or Topic),
        least=levels[0] if levels else Severity.INFO,
        service=service,
    )


def _service(url: str, place: int) -> Any:
    mask_in_logs(url)
    # In memory: Apprise must not keep what it learns about a service in files of its own.
    asset = apprise.AppriseAsset(
        app_id="Trading bot", app_desc="Trading bot", app_url="", storage_mode="memory", async_mode=False
    )
    service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if service is None:
        schema = url.partition("://")[0] if "://" in url else "no schema"
        raise ValueError(
            f"notification target {place}: expected an Apprise URL, found one with {schema!r} that Apprise"
            " does not take; see https://github.com/caronc/apprise/wiki for its form"
        )
    if isinstance(service, NotifyEmail):
        service.inline = True  # a picture stands where the text speaks of it
    return service


class _Masking(logging.Filter):
    """Replaces the secret parts of the known URLs in every record."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        record.msg, record.args = text, ()
        return True


_MASKING = _Masking()


def mask_in_logs(url: str) -> None:
    """Keep the parts of `url` out of what Apprise and urllib3 log, at any level."""
    schema, _, rest = url.partition("://")
    pieces = re.split(r"[/:@?&=#,]", rest)
    if schema.lower() in _NAMES_A_SERVER:
        server = re.split(r"[/?]", rest, maxsplit=1)[0].rpartition("@")[2].partition(":")[0]
        pieces = [piece for piece in pieces if piece != server]
    for piece in pieces:
        _MASKING.secrets.update(p for p in (piece, unquote(piece)) if len(p) >= _SECRET_LENGTH_MIN)
    for name in ("apprise", "urllib3.connectionpool"):
        logger = logging.getLogger(name)
        if _MASKING not in logger.filters:
            logger.addFilter(_MASKING)
