"""Seeds, as ComfyUI has them."""

MAX_SEED = 2**64 - 1  # they have 64 bits
