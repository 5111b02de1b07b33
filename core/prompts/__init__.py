"""Texts and conditionings, and what belongs to a part of the picture in them."""
