"""The networks: a folder a family, the seam before them (`family`), and what they share."""
