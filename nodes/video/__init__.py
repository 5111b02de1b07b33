"""Nodes for video: they follow things through the frames and redraw them there."""

from . import detailer, tracks

FAMILIES = (tracks, detailer)
