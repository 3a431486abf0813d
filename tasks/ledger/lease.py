"""Who may trade: one row per account, index and mode, with an owner, a heartbeat and a fencing number.

Invariants:
1. At most one owner at a time: taking is one statement of the database, whatever processes race for it.
2. The fence rises with every taking and is never reused, also across days; each taking is kept as history.
3. A lease that was not renewed for its time to live is free; until somebody takes it, its owner may renew it.
4. Times are real time, not market time: a lease is about processes.
"""

# ruff: noqa: S608  SQL is put together from names in this package alone; every value is a parameter

from dataclasses import dataclass, replace

from tasks.ledger import LeaseLost
from tasks.ledger.database import Database, Transaction
from tasks.ledger.records import SessionKey
from tasks.ledger.rows import Rows, moment_text

TTL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to send orders, as it was when taken or renewed. The key's day is the taker's."""

    key: SessionKey
    owner: str
    fence: int
    taken_at_ms: int
    heartbeat_at_ms: int
    expires_at_ms: int


class LeaseHeld(Exception):
    """Somebody else holds the lease; `holder` says who and until when."""

    def __init__(self, holder: Lease) -> None:
        self.holder = holder
        super().__init__(
            f"expected a free lease for {_name(holder.key)}, found it held by {holder.owner!r} until"
            f" {moment_text(holder.expires_at_ms)} unless renewed (fence {holder.fence});"
            " end that process, wait, or square off instead"
        )


_TAKE = """
INSERT INTO lease (account, underlying, mode, fence, owner, taken_at, heartbeat_at, expires_at)
VALUES (?, ?, ?, 1, ?, ?, ?, ?)
ON CONFLICT (account, underlying, mode) DO UPDATE SET
    fence = lease.fence + 1, owner = excluded.owner, taken_at = excluded.taken_at,
    heartbeat_at = excluded.heartbeat_at, expires_at = excluded.expires_at
"""
_IF_FREE = " WHERE lease.owner IS NULL OR lease.expires_at <= excluded.heartbeat_at"
_KEY = " WHERE account = ? AND underlying = ? AND mode = ?"


class Leases:
    """The leases of a ledger. Every method may raise LedgerUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, key: SessionKey, owner: str, now_ms: int, ttl_s: float = TTL_S) -> Lease:
        """Take a lease that is free or has run out; LeaseHeld otherwise, even when `owner` holds it."""
        return self._database.write(
            lambda transaction: self._take(transaction, key, owner, now_ms, ttl_s, by_force=False)
        )

    def take_over(self, key: SessionKey, owner: str, now_ms: int, ttl_s: float = TTL_S) -> Lease:
        """Take a lease whoever holds it: its former owner can record no further intent."""
        return self._database.write(
            lambda transaction: self._take(transaction, key, owner, now_ms, ttl_s, by_force=True)
        )

    def renew(self, lease: Lease, now_ms: int, ttl_s: float = TTL_S) -> Lease:
        """Say that the owner lives. LeaseLost when another has taken the lease, or it was released."""
        expires_at_ms = now_ms + round(ttl_s * 1000)
        moment = self._database.wire.moment

        def work(transaction: Transaction) -> None:
            renewed = transaction.run(
                f"UPDATE lease SET heartbeat_at = ?, expires_at = ?{_KEY} AND fence = ? AND owner = ?",
                moment(now_ms),
                moment(expires_at_ms),
                *_key_of(lease.key),
                lease.fence,
                lease.owner,
            )
            if not renewed:
                raise LeaseLost(self._lost(self._row(transaction.rows, lease.key), lease))

        self._database.write(work)
        return replace(lease, heartbeat_at_ms=now_ms, expires_at_ms=expires_at_ms)

    def release(self, lease: Lease) -> bool:
        """Give the lease back; False when it was no longer ours (nothing changes then)."""
        return bool(
            self._database.write(
                lambda transaction: transaction.run(
                    f"UPDATE lease SET owner = NULL{_KEY} AND fence = ? AND owner = ?",
                    *_key_of(lease.key),
                    lease.fence,
                    lease.owner,
                )
            )
        )

    def holder(self, key: SessionKey, now_ms: int) -> Lease | None:
        """Who holds the lease and is alive; None when it is free, released or has run out."""
        lease = self._row(self._database.rows, key)
        return lease if lease is not None and lease.owner and lease.expires_at_ms > now_ms else None

    def _take(
        self,
        transaction: Transaction,
        key: SessionKey,
        owner: str,
        now_ms: int,
        ttl_s: float,
        *,
        by_force: bool,
    ) -> Lease:
        if not owner:
            raise ValueError("expected an owner's name (host, process, run) for the lease, found an empty one")
        expires_at_ms = now_ms + round(ttl_s * 1000)
        moment = self._database.wire.moment
        taken = transaction.rows(
            _TAKE + ("" if by_force else _IF_FREE) + " RETURNING fence",
            *_key_of(key),
            owner,
            moment(now_ms),
            moment(now_ms),
            moment(expires_at_ms),
        )
        if not taken:
            holder = self._row(transaction.rows, key)
            assert holder is not None, "a lease that cannot be taken is a row"
            raise LeaseHeld(holder)
        fence = int(taken[0][0])
        transaction.run(
            "INSERT INTO lease_taking (account, underlying, mode, fence, owner, taken_at, taken_over)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            *_key_of(key),
            fence,
            owner,
            moment(now_ms),
            by_force,
        )
        return Lease(
            key=key,
            owner=owner,
            fence=fence,
            taken_at_ms=now_ms,
            heartbeat_at_ms=now_ms,
            expires_at_ms=expires_at_ms,
        )

    def _row(self, rows: Rows, key: SessionKey) -> Lease | None:
        found = rows(
            f"SELECT owner, fence, taken_at, heartbeat_at, expires_at FROM lease{_KEY}",
            *_key_of(key),
        )
        if not found:
            return None
        owner, fence, taken_at, heartbeat_at, expires_at = found[0]
        at_ms = self._database.wire.at_ms
        return Lease(
            key=key,
            owner=owner or "",
            fence=fence,
            taken_at_ms=at_ms(taken_at),
            heartbeat_at_ms=at_ms(heartbeat_at),
            expires_at_ms=at_ms(expires_at),
        )

    def _lost(self, current: Lease | None, ours: Lease) -> str:
        fence, owner = (current.fence, current.owner) if current else (None, None)
        return lease_lost_text(_name(ours.key), ours.fence, fence, owner)


def lease_lost_text(name: str, ours: int, current: int | None, owner: str | None) -> str:
    """What a LeaseLost says."""
    now = f"fence {current} of {owner or 'nobody (released)'}" if current else "no lease at all"
    return (
        f"expected to hold the lease for {name} with fence {ours}, found {now}; send nothing more and end this session"
    )


def _key_of(key: SessionKey) -> tuple[str, str, str]:
    return key.account, str(key.underlying), key.mode


def _name(key: SessionKey) -> str:
    return f"{key.underlying}/{key.mode}/{key.account}"
