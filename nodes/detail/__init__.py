"""Nodes that redraw segments, and the pipes and options that they take."""

from . import faces, images, options, pipes, video

FAMILIES = (
    images,
    video,
    options,
    pipes,
    faces,
)
