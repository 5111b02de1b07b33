"""Tracks: where each thing is in the frames of a clip, and the window that follows it.

track        the value of a SEGS_TRACKS link
finds        what was found in single frames
sources      where finds come from: detectors, SEGS, masks, boxes, SAM 3
appearance   what things look like, to tell them apart
cuts         where a clip shows something else
association  which finds of neighbouring frames are the same thing
crossings    which thing is which after things have met
motion       how a thing moves between two frames, measured in the pixels
links        that motion between many pairs of frames, while a clip is read once
joint        one path from all of them
smoothing    smooth curves through noisy values with gaps
windows      courses, windows, masks in gaps, and the frames that are used
follow       all of it: from a clip to its tracks
convert      tracks as SEGS
preview      tracks drawn into the frames, and as text
people       which person each track shows
"""
