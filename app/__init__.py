"""The service: HTTP in, tensors out. Nothing in this process imports torch or coremltools."""
