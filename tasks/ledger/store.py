"""The ledger's one door: record what happened, read it back, derive the rest.

Contract (the implementation follows it; every method may raise LedgerUnavailable):

    Ledger(url).close()            url: sqlite:///path or postgresql+psycopg://…  (migrate(url) first)

    sessions     open_session(key, salt) -> salt that holds (the first opening's)   · record_start(SessionStart)
                 starts(session_id) · session_ids(day=, underlying=, mode=) · key_of(session_id)
    orders       record_intent(IntentRecord)       one commit; refused with LeaseLost when its fence is not current
                 record_order_event(OrderEventRecord) · record_fill(FillRecord) -> bool (False: known already)
                 intents(session_id) · order_events(client_order_id) · fills(session_id) [(client_order_id, intent,
                 side, FillRecord)]
    history      record_decisions / record_candles / record_ticks(session_id, [Tick]) in batches
                 decisions(session_id, kind=None) · candles(session_id, seconds) · ticks(session_id)
    commands     request_command(CommandRecord) · open_commands(session_id) · answer_command(id, answer, at_ms)
                 command(id)
    evening      record_charges([ChargeRecord]) · record_reconciliation(session_id, run_id, at_ms, state, differences)
                 reconciliations(session_id) · trades(session_id) -> tuple[TradeRecord, ...]
    lease        see lease.py: take, renew, release, holder
"""
