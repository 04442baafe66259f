"""An ML program executed with PyTorch, operation by operation."""
