"""Detectors: they find things in images."""
