"""What a user sends: bodies, sequences, options."""
