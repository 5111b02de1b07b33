"""Odd values for every input of every node: they are refused, or the node runs correctly."""
