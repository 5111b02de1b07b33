"""Files of tensors, latents and pictures, read without running anything in them."""
