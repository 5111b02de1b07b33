"""Texts and conditionings, and their parts that belong to a place in the picture."""
