"""Tracks: where each thing is in the frames of a clip, and the window that follows it."""
