"""The BPE vocabulary, from the training DNA."""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, processors, trainers

from tools.mini.data import Contig, cut, reverse_complement
from tools.mini.recipe import CLS, SEP, SPECIAL_TOKENS, Recipe


def train_tokenizer(contigs: Sequence[Contig], recipe: Recipe) -> Tokenizer:
    """BPE as GENA-LM has it: no normalizer, no pre-tokenizer, [CLS] and [SEP] around."""
    vocab_size = int(recipe.config["vocab_size"])
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list("ACGTN"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_pieces(contigs, recipe), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    tokenizer.decoder = decoders.BPEDecoder(suffix=" ")
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(
            f"the DNA gives {tokenizer.get_vocab_size()} tokens; the network has {vocab_size}"
        )
    return tokenizer


def _tokenizer_pieces(contigs: Sequence[Contig], recipe: Recipe) -> Iterator[str]:
    """Random pieces of either strand, without N, in the species' shares."""
    generator = np.random.default_rng((recipe.seed, 1))
    for species, share in recipe.species.items():
        pieces = [
            piece
            for contig in contigs
            if contig.species == species
            for strand in (contig.sequence, reverse_complement(contig.sequence))
            for piece in cut(strand, recipe.tokenizer_piece)
            if "N" not in piece
        ]
        wanted = round(recipe.tokenizer_letters * share / recipe.tokenizer_piece)
        for index in generator.permutation(len(pieces))[:wanted]:
            yield pieces[index]
