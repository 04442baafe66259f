"""A command a file, named as people type it."""
