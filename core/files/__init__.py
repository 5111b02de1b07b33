"""Files of tensors and latents, read without running anything that they hold."""
