"""Noise levels, sampler runs, many runs as one, regions, and upscaling in several steps."""
