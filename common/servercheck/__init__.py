"""Can clients and other servers find a homeserver by its name? What is wrong, and what mends it.

``gather`` asks over a port, ``judge`` decides from what it got; ``internet`` is the only module
here that opens connections, and it does not let itself be led into private networks.
"""
