"""modernGENA: GENA-LM's successor, a ModernBERT."""
