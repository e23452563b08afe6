"""How fast a detector is on this machine. Every candidate is a process of its own, taken in turns.

Runtimes in one process disturb each other's thread pools, up to doubling each other's times.
"""
