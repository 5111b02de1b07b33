"""Images and masks as tensors: resize, blend, colour, rotate. It knows no SEGS."""
