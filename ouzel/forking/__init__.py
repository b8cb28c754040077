"""Processes that fork from one that has imported their libraries: they start at once and share its memory.

`request`: what is asked for. `child`: how a fork becomes what was asked for. `server`: a process that forks for one
other, which has a `ForkServer` (`client`).
"""
