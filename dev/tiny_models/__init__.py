"""Small random instances of the host's model classes: are segments sampled together as alone?

`compare.py` runs inside a host's Python, without a server; `tests/host/test_model_classes.py`
says what has to come out.
"""
