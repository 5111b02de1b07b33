"""Checks of inputs, conversions of arrays, files, paths and notes, for all rooms."""
