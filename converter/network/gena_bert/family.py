"""GENA-LM's BERT, as the converter asks for it."""

from converter.network.family import Cure, Family, PublishedNames
from converter.network.gena_bert.cures import CENTRED_ATTENTION, centre_attention
from converter.network.gena_bert.neural_engine import published_tables, re_author, tables
from converter.network.gena_bert.reference import GenaEncoder, MaskedLanguageModelHead
from converter.network.heads import HeadNames

GENA_BERT = Family(
    title="GENA-LM",
    names=PublishedNames(
        prefix="bert.",
        layers="encoder.layer.",
        words="embeddings.word_embeddings.weight",
        head="cls.predictions.",
        heads=HeadNames(
            parts={
                "cls.predictions": "masked-language-model head",
                "cls.seq_relationship": "next-sentence head",
                "pooler": "pooler",
                "classifier": "classifier",
            },
            open="cls",
            buffers=("embeddings.position_ids", "embeddings.token_type_ids"),
            of_encoders=frozenset({"bert", "embeddings", "encoder", "layer"}),
        ),
    ),
    encoder=GenaEncoder,
    head=MaskedLanguageModelHead,
    re_author=re_author,
    tables=tables,
    published_tables=published_tables,
    sizes=lambda _config, tokens: (tokens,),
    multiple=lambda _config: 1,
    cure=Cure(CENTRED_ATTENTION, centre_attention),
)
