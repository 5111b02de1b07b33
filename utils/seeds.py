"""The range of seeds, as in ComfyUI."""

MAX_SEED = 2**64 - 1  # seeds have 64 bits
