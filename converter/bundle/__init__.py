"""What is served: package, tokenizer and manifest in one folder."""
