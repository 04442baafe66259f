"""GENA-LM's network: configuration, reference, and the form for the Neural Engine."""
