"""The language of segment texts, with wildcards.

`deal` gives each segment its text, `grammar` expands a text to a prompt, and `library` has the
lists that `__name__` draws from. Nothing here uses tensors or the host.
"""
