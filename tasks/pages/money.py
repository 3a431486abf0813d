"""Paise as text for people: rupees with Indian grouping. Nothing is ever parsed back from here."""

from fractions import Fraction

RUPEE = "₹"


def render_rupees(paise: int, *, signed: bool = False, symbol: str = RUPEE) -> str:
    """Render integer paise, e.g. 1_23_456_50 as "₹1,23,456.50"; `signed` shows a plus on gains as well.

    Use `symbol="INR "` in pictures: without fonts the rupee sign is an empty box.
    """
    sign = "-" if paise < 0 else "+" if signed and paise > 0 else ""
    rupees, rest = divmod(abs(paise), 100)
    return f"{sign}{symbol}{group_indian(rupees)}.{rest:02d}"


def render_points(paise: int) -> str:
    """Render an index level or a price without a currency, e.g. 24_512_30 as "24,512.30"."""
    return render_rupees(paise, symbol="")


def group_indian(number: int) -> str:
    """Group a non-negative integer as India does: the last three digits, then pairs ("1,23,45,678")."""
    digits = str(number)
    head, tail = digits[:-3], digits[-3:]
    pairs: list[str] = []
    while head:
        pairs.append(head[-2:])
        head = head[:-2]
    return ",".join([*reversed(pairs), tail])


def average_paise(value_paise: int, quantity: int) -> int:
    """The price per unit of `quantity` units worth `value_paise`, to the nearest paisa; 0 for none."""
    return round(Fraction(value_paise, quantity)) if quantity else 0
