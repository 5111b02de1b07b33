"""The graph around the nodes: switches, old workflows, node ids, links and inputs."""
