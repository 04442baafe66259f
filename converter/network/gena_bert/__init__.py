"""The BERT family of GENA-LM."""
