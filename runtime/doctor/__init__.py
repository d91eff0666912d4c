"""`dossr doctor`: what is on this machine, what will be used, and how to get what is missing. In: what is asked for.
Out: findings, as a screen or JSON.

A check is one function in `machine`, `libraries` or `model`, and one line in `checks.CHECKS`. What could crash, hang or
keep memory (foreign libraries, the driver) is asked by a probe: one function in `probes`, run in a process of its own.
"""
