"""Where a checkpoint lies, and its strict loading."""
