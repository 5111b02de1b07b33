"""Checks and conversions at the border."""
