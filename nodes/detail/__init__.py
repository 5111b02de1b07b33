"""Nodes that redraw segments, and the pipes and options that they take."""

from . import faces, images, options, pipes, preview, segment_plan, variants, video

FAMILIES = (
    images,
    video,
    variants,
    options,
    segment_plan,
    pipes,
    faces,
    preview,
)
