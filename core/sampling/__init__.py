"""Noise levels, samplers, and many sampler runs as one."""
