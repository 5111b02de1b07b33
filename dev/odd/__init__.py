"""Odd values for every input of every node: what is refused, and what runs all the same."""
