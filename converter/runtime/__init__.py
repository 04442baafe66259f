"""What executes a bundle: Core ML on a Mac, MIL elsewhere."""
