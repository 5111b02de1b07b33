"""Nodes that find segments."""

from . import detectors, faces, host_data, models

FAMILIES = (
    detectors,
    faces,
    models,
    host_data,
)
