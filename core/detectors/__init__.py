"""What finds things in images."""
