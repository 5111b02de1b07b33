"""The graph around the nodes: switches, old files, ids, links, files."""
