"""Small random instances of the host's model classes: do segments together give the same as alone?

`compare.py` runs inside a host's Python, without a server; `tests/host/test_model_classes.py` has
the expected results.
"""
