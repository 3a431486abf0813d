"""An order's life as tables: what happens at each moment, and what the desk does about it.

Columns: seconds | what happens | what comes out. What the ledger and people are told in each of these lives stands word
for word in `order_lives.txt`, to be read beside them.
Orders are named A, B, C in the order of their slices. Prices in rupees; the tick is 0.05, the buffer 1 rupee (1 %).
An order is re-priced after 5 s, an entry at most twice; a working order is read after 0.5 s, 1 s and then every 2 s.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from strategy.actions import Alert, CancelEntry, Enter, Exit, ExitReason, Explanation
from strategy.desk import Commit, Desk, step
from strategy.events import Fill, IntentClosed, Side, Tick, Timer
from strategy.instruments import Quantity
from strategy.orders import (
    Answer,
    Ask,
    BookStatus,
    FillStep,
    OrderFact,
    OrderPolicy,
    PushesMissed,
    Reply,
    Request,
    Seen,
    client_order_id,
)
from strategy.pricing import Buffer

from .conftest import CONTRACT

SMALL_FREEZE = replace(CONTRACT, freeze_quantity=150)
POLICY = OrderPolicy(reprices_max=2, modifications_max=5, buffer=Buffer(basis_points=100, min_paise=50))

SCENARIOS = {
    "an entry that fills at once": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.2  A push TRADED 65 @ 100.40     | fill 65 @ 100.40, closed FILLED
        1.0  -                             |
    """,
    "the push overtakes the answer": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A push TRADED 65 @ 100.40     | fill 65 @ 100.40, closed FILLED
        0.2  A accepted                    |
    """,
    "the push overtakes and the answer is lost: there is no doubt": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A push PENDING                |
        0.2  A unknown                     | look up A
        0.3  A found PENDING               |
        0.4  A push TRADED 65 @ 100        | fill 65 @ 100.00, closed FILLED
    """,
    "the push overtakes and the answer is a refusal: the book is asked": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A push PENDING                |
        0.2  A rejected PLACE              | look up A
        0.3  A found REJECTED              | closed REJECTED, order_rejected!
    """,
    "every push is lost: reading finds the fill": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.7  A found TRANSIT               |
        1.6  -                             |
        1.7  -                             | look up A
        1.8  A found TRADED 65 @ 100.40    | fill 65 @ 100.40, closed FILLED
    """,
    "pushes repeated and out of order tell each unit once": """
        0.0  buy 130 at 100                | place A 130 @ 101.00
        0.1  A accepted                    |
        0.2  A push PART_TRADED 65 @ 100   | fill 65 @ 100.00
        0.2  A push PENDING                |
        0.3  A push PART_TRADED 65 @ 100   |
        0.3  A push TRADED 130 @ 101       | fill 65 @ 102.00, closed FILLED
        0.4  A push PART_TRADED 65 @ 100   |
    """,
    "an entry is re-priced twice towards the market, then cancelled": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  A found PENDING               |
        5.0  quote 104 / 105               |
        5.1  -                             | modify A @ 106.05, look up A
        5.1  A found PENDING               |
        5.2  A modified                    |
        9.0  quote 90 / 91                 |
        10.2 -                             | look up A
        10.2 A found PENDING               |
        15.2 -                             | cancel A, look up A
        15.3 A found PENDING               |
        15.3 A cancelled                   | look up A
        15.4 A found CANCELLED             | closed CANCELLED
    """,
    "a fill wins the race against the cancellation": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.2  give up                       | cancel A
        0.3  A cancelled                   | look up A
        0.4  A found TRADED 65 @ 100.90    | fill 65 @ 100.90, closed FILLED
    """,
    "a cancelled remainder is a partial fill, and only the book ends it": """
        0.0  buy 130 at 100                | place A 130 @ 101.00
        0.1  A accepted                    |
        0.2  A push PART_TRADED 65 @ 100   | fill 65 @ 100.00
        0.3  give up                       | cancel A
        0.4  A push CANCELLED 65 @ 100     | look up A
        0.5  A found CANCELLED 65 @ 100    | closed PARTIALLY_FILLED
    """,
    "a cancellation is refused in transit and asked for again": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.2  give up                       | cancel A
        0.3  A rejected CANCEL             | look up A
        0.4  A found TRANSIT               |
        2.3  -                             | cancel A, look up A
        2.3  A found PENDING               |
        2.4  A cancelled                   | look up A
        2.5  A found CANCELLED             | closed CANCELLED
    """,
    "given up while the answer is awaited: cancelled once it is known to exist": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  give up                       |
        0.2  A accepted                    | cancel A
        0.3  A cancelled                   | look up A
        0.4  A found CANCELLED             | closed CANCELLED
    """,
    "a refused entry": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A rejected PLACE              | closed REJECTED, order_rejected!
    """,
    "a rejection that comes later, in the book": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.2  A push REJECTED               | look up A
        0.3  A found REJECTED              | closed REJECTED, order_rejected!
    """,
    "one slice refused, the others go on": """
        0.0  buy 300 at 100                | place A 130 @ 101.00, place B 130 @ 101.00, place C 40 @ 101.00
        0.1  A accepted                    |
        0.1  B rejected PLACE              | order_rejected!
        0.2  C accepted                    |
        0.2  A push TRADED 130 @ 100       | fill 130 @ 100.00
        0.2  C push TRADED 40 @ 100        | fill 40 @ 100.00, closed PARTIALLY_FILLED
    """,
    "an entry of which nothing was sent is dropped": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A unsent                      | closed CANCELLED, entry_not_sent!
    """,
    "an exit of which nothing was sent is sent again, with a fresh price": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A unsent                      | exit_not_sent!
        0.2  quote 90 / 91                 |
        0.5  -                             |
        0.6  -                             | place A 65 @ 89.10
        0.7  A unsent                      |
        1.7  -                             | place A 65 @ 89.10
        1.8  A accepted                    |
        1.9  A push TRADED 65 @ 90         | fill 65 @ 90.00, closed FILLED
    """,
    "a lost reply, the order is live: found, never sent again": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        7.0  A unknown                     | order_unknown!
        7.4  -                             |
        7.5  -                             | look up A
        7.6  A absent                      |
        8.6  -                             | look up A
        8.6  A found TRADED 65 @ 99.50     | fill 65 @ 99.50, closed FILLED
    """,
    "a lost order: absent only after 15 s and two readings; then the session may sell anew": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        7.0  A unknown                     | order_unknown!
        7.5  -                             | look up A
        7.5  A absent                      |
        8.5  -                             | look up A
        8.5  A absent                      |
        10.5 -                             | look up A
        10.5 A absent                      |
        14.5 -                             | look up A
        14.5 A unsent LOOK_UP              |
        22.0 -                             |
        22.5 -                             | look up A
        22.5 A absent                      | closed CANCELLED, order_absent!
    """,
    "readings that fail prove nothing": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        1.0  A unknown                     | order_unknown!
        1.5  -                             | look up A
        1.5  A unsent LOOK_UP              |
        2.5  -                             | look up A
        2.5  A unsent LOOK_UP              |
        4.5  -                             | look up A
        4.5  A unsent LOOK_UP              |
        8.5  -                             | look up A
        8.5  A unsent LOOK_UP              |
        16.5 -                             | look up A
        16.5 A absent                      |
        24.5 -                             | look up A
        24.5 A absent                      | closed CANCELLED, order_absent!
    """,
    "a hanging request is in doubt after 10 s; absence is not concluded while it hangs": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        9.9  -                             |
        10.0 -                             | order_unknown!
        10.5 -                             | look up A
        10.5 A absent                      |
        26.0 -                             | look up A
        26.0 A absent                      |
        40.0 -                             | look up A
        40.0 A absent                      |
        50.0 A accepted                    |
        50.1 A push TRADED 65 @ 99         | fill 65 @ 99.00, closed FILLED
    """,
    "a slow reading tells of the past: its answer at 16 s proves nothing": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        1.0  A unknown                     | order_unknown!
        1.5  -                             | look up A
        1.5  A absent                      |
        2.5  -                             | look up A
        17.0 A absent                      |
        19.0 -                             | look up A
        19.0 A found TRADED 65 @ 99        | fill 65 @ 99.00, closed FILLED
    """,
    "a reading begun before the doubt does not count": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        10.0 -                             | order_unknown!
        10.5 -                             | look up A
        10.6 A unknown                     |
        10.7 A absent                      |
        26.0 -                             | look up A
        26.0 A absent                      |
        30.0 -                             | look up A
        30.0 A absent                      | closed CANCELLED, order_absent!
    """,
    "final is final: what is pushed after the end is late": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.7  A found CANCELLED             | closed CANCELLED
        0.8  A push TRADED 65 @ 100        |
        0.9  A push PENDING                |
    """,
    "more is never taken up than was ordered": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.2  A push TRADED 130 @ 99        | fill 65 @ 198.00, closed FILLED
    """,
    "an acceptance without an order number is a doubt": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted without number     | order_unknown!
        0.6  -                             | look up A
        0.7  A found TRADED 65 @ 99        | fill 65 @ 99.00, closed FILLED
    """,
    "an exit that does not fill: re-priced, alerted, widening, then cancelled for the session to sell anew": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  A found PENDING               |
        3.0  quote 95 / 96                 |
        5.1  -                             | modify A @ 94.05, look up A
        5.1  A found PENDING               |
        5.1  A modified                    |
        9.0  quote 94 / 95                 |
        10.1 -                             | modify A @ 93.05, look up A
        10.1 A found PENDING               |
        10.1 A modified                    |
        15.1 -                             | exit_hard_to_fill!, modify A @ 92.10, look up A
        15.1 A found PENDING               |
        15.1 A modified                    |
        20.1 -                             | modify A @ 90.20, look up A
        20.1 A found PENDING               |
        20.1 A modified                    |
        25.1 -                             | modify A @ 86.45, look up A
        25.1 A found PENDING               |
        25.1 A modified                    |
        30.1 -                             | cancel A, look up A
        30.1 A found PENDING               |
        30.2 A cancelled                   | look up A
        30.3 A found CANCELLED             | closed CANCELLED
    """,
    "a modification that fails for want of a connection is tried again and not counted": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  A found PENDING               |
        3.0  quote 95 / 96                 |
        5.1  -                             | modify A @ 94.05, look up A
        5.1  A found PENDING               |
        5.2  A unsent MODIFY               |
        6.1  -                             |
        6.2  -                             | modify A @ 94.05
        6.3  A modified                    |
        6.8  -                             | look up A
    """,
    "a modification that is refused leaves the limit; the third in a row ends in a cancellation": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  A found PENDING               |
        3.0  quote 95 / 96                 |
        5.1  -                             | modify A @ 94.05, look up A
        5.1  A found PENDING               |
        5.2  A rejected MODIFY             | look up A
        5.2  A found PENDING               |
        9.0  quote 96 / 97                 |
        10.2 -                             | modify A @ 95.00, look up A
        10.2 A found PENDING               |
        10.3 A rejected MODIFY             | look up A
        10.3 A found PENDING               |
        15.3 -                             | exit_hard_to_fill!, modify A @ 94.05, look up A
        15.3 A found PENDING               |
        15.4 A rejected MODIFY             | cancel A, look up A
        15.4 A found PENDING               |
        15.5 A cancelled                   | look up A
        15.5 A found CANCELLED             | closed CANCELLED
    """,
    "given up while a modification is on its way: cancelled as soon as that is answered": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  A found PENDING               |
        3.0  quote 104 / 105               |
        5.1  -                             | modify A @ 106.05, look up A
        5.1  A found PENDING               |
        5.2  give up                       |
        5.3  A modified                    | cancel A
        5.4  A cancelled                   | look up A
        5.4  A found CANCELLED             | closed CANCELLED
    """,
    "the token dies while an exit works: shouted once, tried again": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  A dead LOOK_UP                | broker_authentication_dead!
        1.6  -                             | look up A
        1.6  A dead LOOK_UP                |
        3.0  quote 95 / 96                 |
        3.6  -                             | look up A
        3.7  A found TRADED 65 @ 95        | fill 65 @ 95.00, closed FILLED
    """,
    "the address is refused: the exit ends refused and a person hears of it": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A ip-refused PLACE            | closed REJECTED, broker_ip_refused!
    """,
    "a fill without a price waits for the book": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.2  A push TRADED 65 @ 0          | look up A
        0.3  A found TRADED 65 @ 100.20    | fill 65 @ 100.20, closed FILLED
    """,
    "the book has no price either: the limit is the worst case, said aloud": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.7  A found TRADED 65 @ 0         | fill 65 @ 101.00, closed FILLED, fill_price_missing!
    """,
    "traded without its quantity is not believed": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.2  A push TRADED                 | look up A
        0.3  A found TRADED                |
        1.3  -                             | look up A
        1.4  A found TRADED 65 @ 100       | fill 65 @ 100.00, closed FILLED
    """,
    "the exchange ends an exit's order at the close": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.7  A found EXPIRED               | closed CANCELLED
    """,
    "a broker that contradicts itself: what it refused comes alive and is cancelled, its fill is told": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A rejected PLACE              | closed REJECTED, order_rejected!
        0.5  A push PENDING                | cancel A, order_contradicted!
        0.6  A push TRADED 65 @ 99         | fill 65 @ 99.00
        0.7  A cancelled                   |
    """,
    "a refused order that the book shows as rejected is no contradiction": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A rejected PLACE              | closed REJECTED, order_rejected!
        0.5  A push REJECTED               |
    """,
    "news of orders that are not ours is ignored": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  X push TRADED 65 @ 100        |
        0.1  X accepted                    |
        0.2  A push by number TRADED 65 @ 100 |
        0.3  A accepted                    |
        0.4  A push by number TRADED 65 @ 100 | fill 65 @ 100.00, closed FILLED
    """,
    "an exit cannot be given up": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.2  give up                       |
        0.3  A push TRADED 65 @ 99         | fill 65 @ 99.00, closed FILLED
        0.4  give up                       |
    """,
    "the cheapest option is sold at one tick, never at nothing": """
        0.0  sell 65 at 0.30               | place A 65 @ 0.05
        0.1  A accepted                    |
        0.2  A push TRADED 65 @ 0.25       | fill 65 @ 0.25, closed FILLED
    """,
    "an exit that can go no further and does not fill does not rest for ever: the session sells anew": """
        0.0  sell 65 at 0.30               | place A 65 @ 0.05
        0.1  A accepted                    |
        5.1  -                             | look up A
        5.1  A found PENDING               |
        10.1 -                             | look up A
        10.1 A found PENDING               |
        15.1 -                             | exit_hard_to_fill!, look up A
        15.1 A found PENDING               |
        20.1 -                             | look up A
        20.1 A found PENDING               |
        25.1 -                             | look up A
        25.1 A found PENDING               |
        30.1 -                             | cancel A, look up A
        30.1 A found PENDING               |
        30.2 A cancelled                   | look up A
        30.3 A found CANCELLED             | closed CANCELLED
    """,
    "after the pushes were away every live order is read, whatever was due when": """
        0.0  buy 300 at 100                | place A 130 @ 101.00, place B 130 @ 101.00, place C 40 @ 101.00
        0.1  A accepted                    |
        0.1  B accepted                    |
        0.1  C accepted                    |
        0.2  C push TRADED 40 @ 100        | fill 40 @ 100.00
        0.3  pushes missed                 | look up A, look up B
        0.4  A found TRADED 130 @ 100      | fill 130 @ 100.00
        0.4  B found PENDING               |
        0.5  pushes missed                 | look up B
        0.6  B found TRADED 130 @ 100      | fill 130 @ 100.00, closed FILLED
        0.7  pushes missed                 |
    """,
    "a reading that was on its way when the pushes came back may be too old: it is read again": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  pushes missed                 |
        0.7  A found PENDING               | look up A
        0.8  A found TRADED 65 @ 100       | fill 65 @ 100.00, closed FILLED
    """,
    "of an order that is being sent there is nothing to read yet": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  pushes missed                 |
        0.2  A accepted                    |
        0.7  -                             | look up A
    """,
    "the token dies while a limit is moved: shouted once, the move is tried again after 5 s": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  A found PENDING               |
        3.0  quote 95 / 96                 |
        5.1  -                             | modify A @ 94.05, look up A
        5.1  A found PENDING               |
        5.2  A dead MODIFY                 | broker_authentication_dead!
        10.1 -                             | look up A
        10.1 A found PENDING               |
        10.2 -                             | modify A @ 94.05
        10.3 A dead MODIFY                 |
        15.2 -                             | look up A
        15.2 A found PENDING               |
        15.3 -                             | exit_hard_to_fill!, modify A @ 93.10
    """,
    "the address is refused for a cancellation: shouted once, tried again after 5 s": """
        0.0  buy 65 at 100                 | place A 65 @ 101.00
        0.1  A accepted                    |
        0.2  give up                       | cancel A
        0.3  A ip-refused CANCEL           | broker_ip_refused!
        0.6  -                             | look up A
        0.6  A found PENDING               |
        5.2  -                             | look up A
        5.2  A found PENDING               |
        5.3  -                             | cancel A
        5.4  A ip-refused CANCEL           |
    """,
    "looking up begins quickly again whenever something has changed": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A accepted                    |
        0.6  -                             | look up A
        0.6  A found PENDING               |
        1.6  -                             | look up A
        1.6  A found PENDING               |
        3.5  -                             |
        3.6  -                             | look up A
        3.6  A found PENDING               |
        4.0  quote 95 / 96                 |
        5.1  -                             | modify A @ 94.05
        5.2  A modified                    |
        5.6  -                             |
        5.7  -                             | look up A
        5.7  A found PENDING               |
        6.7  -                             | look up A
    """,
    "a doubt after a doubt is counted afresh": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        10.0 -                             | order_unknown!
        10.5 -                             | look up A
        10.5 A absent                      |
        11.5 -                             | look up A
        11.5 A absent                      |
        13.5 -                             | look up A
        13.5 A absent                      |
        13.6 A unknown                     |
        14.0 -                             |
        14.1 -                             | look up A
        14.1 A absent                      |
        15.1 -                             | look up A
        15.1 A absent                      |
        28.5 -                             | look up A
        28.5 A absent                      |
        36.5 -                             | look up A
        36.5 A absent                      | closed CANCELLED, order_absent!
    """,
    "after a second doubt the readings of the first prove nothing": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        10.0 -                             | order_unknown!
        10.5 -                             | look up A
        10.5 A absent                      |
        11.5 -                             | look up A
        11.5 A absent                      |
        12.0 A unknown                     |
        12.5 -                             | look up A
        12.5 A unsent LOOK_UP              |
        30.0 -                             | look up A
        30.0 A absent                      |
        40.0 -                             | look up A
        40.0 A absent                      | closed CANCELLED, order_absent!
    """,
    "a dead token refuses the order itself": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.1  A dead PLACE                  | closed REJECTED, broker_authentication_dead!
    """,
    "an exit that cannot be sent is tried for ever, every five seconds in the end": """
        0.0  sell 65 at 100                | place A 65 @ 99.00
        0.0  A unsent                      | exit_not_sent!
        0.5  -                             | place A 65 @ 99.00
        0.5  A unsent                      |
        1.5  -                             | place A 65 @ 99.00
        1.5  A unsent                      |
        3.5  -                             | place A 65 @ 99.00
        3.5  A unsent                      |
        7.4  -                             |
        7.5  -                             | place A 65 @ 99.00
        7.5  A unsent                      |
        12.4 -                             |
        12.5 -                             | place A 65 @ 99.00
        12.5 A unsent                      |
        17.4 -                             |
        17.5 -                             | place A 65 @ 99.00
    """,
    "what the book ends unasked is over, though we wanted it": """
        0.0  buy 130 at 100                | place A 130 @ 101.00
        0.1  A accepted                    |
        0.2  A push REJECTED 65 @ 100      | fill 65 @ 100.00, look up A
        0.3  A found REJECTED 65 @ 100     | closed PARTIALLY_FILLED
    """,
    "more than 36 orders are refused, not sent in part": """
        0.0  buy 5200 at 100               | intent_impossible!, closed REJECTED
    """,
}

ANSWERS = {"accepted": Answer.ACCEPTED, "rejected": Answer.REJECTED, "unsent": Answer.NOTHING_SENT,
           "unknown": Answer.UNKNOWN, "absent": Answer.ABSENT, "dead": Answer.AUTHENTICATION_DEAD,
           "ip-refused": Answer.IP_REFUSED, "modified": Answer.ACCEPTED, "cancelled": Answer.ACCEPTED}  # fmt: skip
ASKS = {"modified": Ask.MODIFY, "cancelled": Ask.CANCEL, "absent": Ask.LOOK_UP}


def paise(text):
    return round(float(text) * 100)


def order_id(name):
    return client_order_id("261120N-k3f", 7, "ABC".index(name)) if name in "ABC" else "somebody-else"


def sighting(at_ms, name, words, *, from_book):
    by_number = words[:2] == ["by", "number"]
    words = words[2:] if by_number else words
    quantity = int(words[1]) if len(words) > 1 else 0
    return Seen(
        at_ms=at_ms,
        client_order_id="" if by_number else order_id(name),
        broker_order_id=f"9{name}",
        status=BookStatus(words[0]),
        filled_quantity=quantity,
        filled_value_paise=quantity * paise(words[3]) if quantity else 0,
        message="the book's words" if from_book else "the push's words",
        from_book=from_book,
    )


def event_of(at_ms, text):
    words = text.split()
    match words:
        case ["-"]:
            return Timer(at_ms=at_ms)
        case ["pushes", "missed"]:
            return PushesMissed(at_ms=at_ms)
        case ["give", "up"]:
            return CancelEntry(at_ms=at_ms, intent=7)
        case ["quote", bid, "/", ask]:
            return Tick(
                at_ms=at_ms,
                security=SMALL_FREEZE.security,
                price_paise=paise(bid),
                bid_paise=paise(bid),
                ask_paise=paise(ask),
            )
        case ["buy" | "sell" as way, quantity, "at", price]:
            common = {
                "at_ms": at_ms, "intent": 7, "trade": 3, "contract": SMALL_FREEZE, "quantity": Quantity(int(quantity)),
                "reference_paise": paise(price), "why": Explanation(),
            }  # fmt: skip
            return Enter(**common) if way == "buy" else Exit(reason=ExitReason.STOP_LOSS, **common)
        case [name, "push", *rest]:
            return sighting(at_ms, name, rest, from_book=False)
        case [name, "found", *rest]:
            seen = sighting(at_ms, name, rest, from_book=True)
            return Reply(at_ms=at_ms, ask=Ask.LOOK_UP, client_order_id=order_id(name), answer=Answer.FOUND, seen=seen)
        case [name, word, *rest]:
            numbered = word == "accepted" and not rest
            ask = Ask(rest[0]) if len(rest) == 1 else ASKS.get(word, Ask.PLACE)
            return Reply(
                at_ms=at_ms, ask=ask, client_order_id=order_id(name), answer=ANSWERS[word],
                broker_order_id=f"9{name}" if numbered else "", message="the broker's words",
            )  # fmt: skip
    raise AssertionError(f"no such event: {text}")


def told(output):
    match output:
        case Request(ask=ask):
            name = "ABC"[int(output.client_order_id[-1])]
            price = f"@ {output.limit_paise / 100:.2f}"
            return {
                Ask.PLACE: f"place {name} {output.quantity} {price}", Ask.MODIFY: f"modify {name} {price}",
                Ask.CANCEL: f"cancel {name}", Ask.LOOK_UP: f"look up {name}",
            }[ask]  # fmt: skip
        case Fill():
            return f"fill {output.quantity} @ {output.value_paise / output.quantity / 100:.2f}"
        case IntentClosed():
            return f"closed {output.outcome}"
        case Alert():
            return f"{output.kind}!"
    return None


def recorded(output):
    """What goes to the ledger and to people, in full; nothing for requests."""
    match output:
        case OrderFact():
            filled = f"filled {output.filled_quantity}" * (output.filled_quantity > 0)
            number = f"#{output.broker_order_id}" * (output.broker_order_id != "")
            words = f"({output.message})" * (output.message != "")
            name = "ABC"[int(output.client_order_id[-1])]
            parts = [name, output.kind.value, output.status, filled, number, f"@ {output.limit_paise / 100:.2f}", words]
            return " ".join(part for part in parts if part)
        case FillStep():
            name, rupees = "ABC"[int(output.client_order_id[-1])], output.value_paise / 100
            return f"{name} fills {output.quantity}, so far {output.cumulative_quantity}, for {rupees:.2f}"
        case Alert():
            return f"{output.severity.value} {output.kind}: {output.message}"
        case IntentClosed():
            return f"closed {output.outcome.value}" + f" ({output.message})" * (output.message != "")
    return None


def sound(output, now_ms, side):
    """Whatever is said is said now, of this intent, this contract and this side."""
    if not isinstance(output, Request | Commit):
        assert output.at_ms == now_ms
    if isinstance(output, Fill | IntentClosed | Commit):
        assert output.intent == 7
    if isinstance(output, Fill | Request):
        assert output.side is side
    if isinstance(output, Commit):
        assert [(order.intent, order.number, order.write_due_ms) for order in output.orders] == [
            (7, number, now_ms) for number in range(len(output.orders))
        ]
    if isinstance(output, Request):
        assert output.contract is SMALL_FREEZE
        known = "" if output.ask is Ask.PLACE else f"9{'ABC'[int(output.client_order_id[-1])]}"
        assert output.broker_order_id in {"", known}
        assert output.broker_order_id or output.ask in {Ask.PLACE, Ask.LOOK_UP}


LIVES = {
    name: lines.strip().splitlines()
    for life in Path(__file__).with_name("order_lives.txt").read_text(encoding="utf-8").split("== ")[1:]
    for name, _, lines in [life.partition("\n")]
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name):
    desk, lines = Desk(prefix="261120N-k3f"), SCENARIOS[name].strip().splitlines()
    side = Side.BUY if " buy " in lines[0] else Side.SELL
    life = []
    for line in lines:
        happening, _, expected = line.partition("|")
        seconds, _, text = happening.strip().partition(" ")
        desk, outputs = step(desk, event_of(1_000_000 + round(float(seconds) * 1000), text.strip()), POLICY)
        said = [words for output in outputs if (words := told(output)) is not None]
        wanted = [words.strip() for words in expected.split(",") if words.strip()]
        assert sorted(said) == sorted(wanted), line
        fills = [number for number, words in enumerate(said) if words.startswith("fill")]
        ends = [number for number, words in enumerate(said) if words.startswith("closed")]
        assert all(fill < end for fill in fills for end in ends), "the end comes after the last fill"
        commits = [number for number, output in enumerate(outputs) if isinstance(output, Commit)]
        requests = [number for number, output in enumerate(outputs) if isinstance(output, Request)]
        assert all(commit < request for commit in commits for request in requests)
        for output in outputs:
            sound(output, desk.now_ms, side)
        life += [f"{seconds:<5}{words}" for output in outputs if (words := recorded(output)) is not None]
    told_now = "\n".join([f"== {name}", *life])
    assert life == LIVES.get(name), f"order_lives.txt says otherwise; if this is meant, it should say:\n{told_now}"


def test_every_life_is_written_down():
    assert list(LIVES) == list(SCENARIOS)


def test_an_intent_submitted_twice_is_sent_once():
    desk, first = step(Desk(prefix="261120N-k3f"), event_of(0, "buy 65 at 100"), POLICY)
    _, second = step(desk, event_of(1, "buy 65 at 100"), POLICY)
    assert "place A 65 @ 101.00" in [told(output) for output in first]
    assert [told(output) for output in second] == ["intent_repeated!"]


def test_time_never_runs_backwards():
    desk, _ = step(Desk(prefix="261120N-k3f"), event_of(10_000, "buy 65 at 100"), POLICY)
    desk, _ = step(desk, Timer(at_ms=5_000), POLICY)
    assert desk.now_ms == 10_000


def test_a_fill_that_the_book_never_completes_calls_a_person_once():
    """TRADED without its quantity, again and again: not believed, not ended, and said aloud."""
    desk, _ = step(Desk(prefix="261120N-k3f"), event_of(0, "buy 65 at 100"), POLICY)
    desk, _ = step(desk, event_of(100, "A accepted"), POLICY)
    alerts = []
    for seconds in range(1, 60):
        desk, outputs = step(desk, event_of(seconds * 1000, "-"), POLICY)
        if "look up A" in map(told, outputs):
            desk, outputs = step(desk, event_of(seconds * 1000, "A found TRADED"), POLICY)
            alerts += [told(output) for output in outputs]
        if "cancel A" in map(told, outputs):
            desk, _ = step(desk, event_of(seconds * 1000, "A rejected CANCEL"), POLICY)
    assert alerts == ["order_short_of_its_fill!"]
    assert desk.open_intents == (7,)
