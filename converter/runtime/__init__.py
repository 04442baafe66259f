"""What executes a bundle: Core ML on a Mac, the executor elsewhere."""
