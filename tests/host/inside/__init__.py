"""Checks that run within a process that has the host's modules, but no server.

A check is a function `check_...` of a module here; `run.py` runs all of a module, and
`tests/host/test_inside.py` makes a test of each.
"""
