"""modernGENA, as the converter asks for it."""

from converter.network.family import Family, PublishedNames
from converter.network.heads import HeadNames
from converter.network.moderngena.neural_engine import published_tables, re_author, sizes, tables
from converter.network.moderngena.reference import MaskedLanguageModelHead, ModernGenaEncoder

MODERNGENA = Family(
    title="modernGENA",
    names=PublishedNames(
        prefix="model.",
        layers="layers.",
        words="embeddings.tok_embeddings.weight",
        head="",
        heads=HeadNames(
            parts={
                "head": "prediction head",
                "decoder": "masked-language-model decoder",
                "classifier": "classifier",
            },
            open="",
            buffers=(),
            of_encoders=frozenset({"model", "embeddings", "layers", "final_norm"}),
        ),
    ),
    encoder=ModernGenaEncoder,
    head=MaskedLanguageModelHead,
    re_author=re_author,
    tables=tables,
    published_tables=published_tables,
    sizes=sizes,
    multiple=lambda config: config.block,
)
