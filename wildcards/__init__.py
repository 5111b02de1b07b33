"""The segment-text (wildcard) language.

`deal` says which segment gets which text, `grammar` turns a text into a finished prompt, `library`
holds the lists that `__name__` draws from. Nothing here knows tensors or the host.
"""
