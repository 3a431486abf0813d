"""What happened, kept: the one place that a restart, a report and a post-mortem read from.

The ways the ledger says no:

* LedgerUnavailable   nothing was recorded, as far as can be known; recording it again is always safe
  + LedgerRefused     it can never be recorded as it is: it contradicts the schema or what is recorded already
* LeaseLost           another process may trade this account now; nothing was recorded and nothing may be sent
"""


class LedgerUnavailable(Exception):
    """The database could not be read or written in time. Recording the same thing again is always safe."""


class LedgerRefused(LedgerUnavailable):
    """What was to be recorded contradicts the schema or the ledger; repeating it cannot succeed."""


class LeaseLost(Exception):
    """The caller's fencing number is not the current one: it must not send another order."""
