"""From a request to its answer: the exchange, and a writer for each format."""
