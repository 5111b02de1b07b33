"""SEGS: make, filter, edit and paste segments."""
