"""What several tests use: checkpoints, bundles, stand-ins, running servers."""
