"""Checkpoint in, verified bundle out; and the runtimes that execute a bundle."""
