"""The hooks of this pack; `core/hook_protocol.py` says what a hook is."""
