"""Checkpoint to verified bundle."""
