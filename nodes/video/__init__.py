"""Nodes for video: they follow things through the frames and redraw them there."""

from . import detailer, long, people, tracks

FAMILIES = (tracks, people, detailer, long)
