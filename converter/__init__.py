"""Checkpoint in, verified bundle out; and the runtime that executes a bundle."""
