"""The alarm that automations raise: a run crashed, is late or failed, and a person must hear of it."""

from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from strategy.actions import Severity
from tasks.connect import send_alert

Occasion = Literal["session crashed", "session late", "evening failed"]
# What to do, by occasion; the runbook has the long form.
NEXT_STEPS: dict[Occasion, str] = {
    "session crashed": "The guardian looks at the broker now and closes what is open; its own message follows. "
    "Starting the session's deployment again takes the day up where it was.",
    "session late": "It starts as soon as a worker is up, and trades the rest of the day. Is the worker running?",
    "evening failed": "A first failure is tried once more by itself; after a second one run the deployment again. "
    "Nothing is at stake at the broker.",
}


@flow(name="alarm", flow_run_name="{what}: {run_name}", retries=0)
def alarm(what: Occasion, run_name: str, message: str = "") -> State[Any]:
    """Tell the operator.

    Args:
        what: What happened.
        run_name: The name of the run it happened to.
        message: Its state's message.
    """
    severity = Severity.CRITICAL if what == "session crashed" else Severity.WARNING
    body = "\n".join(line for line in (message, NEXT_STEPS[what]) if line)
    get_run_logger().warning("%s: %s. %s", what, run_name, body)
    send_alert(what.replace(" ", "_"), f"{what}: {run_name}", body, severity)
    return Completed(name="Told", message=f"{what}: {run_name}")
