"""SAM: masks of what a point or a box names."""
