"""SAM: masks of the things at points or in boxes."""
