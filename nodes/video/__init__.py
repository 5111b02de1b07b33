"""Nodes for video: they follow things through the frames and redraw them there."""

from . import detailer, long, tracks

FAMILIES = (tracks, detailer, long)
