"""A notice: one thing a person should hear of, as a plain value that survives a trip through a file."""

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from strategy.actions import Severity


class Topic(StrEnum):
    """Who wants to hear of it; targets subscribe to topics."""

    TRADES = "trades"  # bought, sold
    RISK = "risk"  # limits, halts, squareoffs, orders in doubt
    OPERATIONS = "operations"  # starts, ends, feeds, failures
    REPORTS = "reports"  # the evening


# From quiet to loud.
LOUDNESS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that goes with a notice; mail shows pictures inline."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message. The title alone must tell the story; mail shows `html` in place of the body.

    Notices with the same `key` are the same news; without a key, equal titles and bodies are.
    """

    at_ms: int
    kind: str  # "entry", "exit", "stale_feed", ...
    topic: Topic
    severity: Severity
    title: str
    body: str = ""
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    key: str = ""

    @property
    def identity(self) -> str:
        """What makes this the same news as another notice."""
        return "\x1f".join((self.kind, self.key) if self.key else (self.kind, self.title, self.body))

    @property
    def is_critical(self) -> bool:
        """True for what must be heard whatever else is going on."""
        return self.severity is Severity.CRITICAL


def notice_to_json(notice: Notice) -> dict[str, Any]:
    """The notice as JSON values; `notice_from_json` is its inverse."""
    return {
        "at_ms": notice.at_ms,
        "kind": notice.kind,
        "topic": notice.topic.value,
        "severity": notice.severity.value,
        "title": notice.title,
        "body": notice.body,
        "html": notice.html,
        "key": notice.key,
        "attachments": [
            {
                "name": attachment.name,
                "media_type": attachment.media_type,
                "content": base64.b64encode(attachment.content).decode("ascii"),
            }
            for attachment in notice.attachments
        ],
    }


def notice_from_json(values: Mapping[str, Any]) -> Notice:
    """The notice that `notice_to_json` wrote. KeyError, ValueError or TypeError if it did not."""
    return Notice(
        at_ms=int(values["at_ms"]),
        kind=str(values["kind"]),
        topic=Topic(values["topic"]),
        severity=Severity(values["severity"]),
        title=str(values["title"]),
        body=str(values["body"]),
        html=None if values["html"] is None else str(values["html"]),
        key=str(values["key"]),
        attachments=tuple(
            Attachment(
                name=str(attachment["name"]),
                media_type=str(attachment["media_type"]),
                content=base64.b64decode(attachment["content"]),
            )
            for attachment in values["attachments"]
        ),
    )


def plain_to_html(text: str) -> str:
    """Text as an HTML fragment with the same lines."""
    return html.escape(text).replace("\n", "<br>\n")
