"""Where a checkpoint's files lie, and what is in them."""
