"""How gena-mini is made: its DNA, recipe, tokenizer, network, objective and training."""
