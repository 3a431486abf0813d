"""A stand-in for Dhan and the exchange, speaking Dhan's own wire protocol on one loopback port.

It owns its own clock, random numbers and book. The bot knows nothing of it but its base URLs; it knows nothing of the
bot but the market facts of the strategy room. See `simulator/__main__.py` for how to start it and
`simulator/control.py` for what tests may ask of it.
"""
