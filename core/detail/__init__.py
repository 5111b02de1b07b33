"""The detailers: from an image and its SEGS to the image with its segments redrawn."""
