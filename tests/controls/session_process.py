"""One trading process without Prefect, as a program: settings from the environment, the rules' from the arguments."""

import json
import logging
import sys
from datetime import date

from strategy.params import Params
from tasks.connect import Connections
from tasks.ledger.lease import LeaseHeld
from tasks.trading.session import trade_session

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    params = Params.model_validate({"mode": "rehearsal", **json.loads(sys.argv[2])})
    with Connections(params, date.fromisoformat(sys.argv[1]), run_id="process") as connections:
        try:
            summary = trade_session(connections)
        except LeaseHeld as held:
            print(json.dumps({"state": "LeaseHeld", "message": str(held), "day_over": True}), flush=True)
        else:
            said = {"state": summary.state_name, "message": summary.message, "day_over": summary.day_over}
            print(json.dumps(said), flush=True)
