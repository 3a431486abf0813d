"""What the operator hears: notices by mail, Telegram or any service that Apprise knows.

Invariants:
1. `Notifier.notify` takes about a microsecond; it neither blocks nor raises, whatever the services do.
2. A critical notice is never de-duplicated, held back or routed away: it goes to every target.
3. An accepted notice is delivered at least once, over restarts too, until it is too old to matter.
4. A target's URL is a secret: no log line, repr, error or spool file carries it.
"""

from tasks.notify.notice import Attachment, Notice, Topic
from tasks.notify.notifier import Notifier
from tasks.notify.targets import Target, parse_target
from tasks.notify.throttle import Limits

__all__ = ["Attachment", "Limits", "Notice", "Notifier", "Target", "Topic", "parse_target"]
