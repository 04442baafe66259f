"""The embeddings document of OpenAI's API."""

import base64
from collections.abc import Iterator

import orjson

from app import media_types
from app.answers import json_values
from app.answers.writer import AnswerPlan, Chunk, Writer
from app.inference.engine import Block


class OpenAIWriter(Writer):
    """Vectors in the order of the input.

    Args:
        model: as the request called it.
        as_base64: little-endian float32 in place of numbers.
    """

    media_type = media_types.JSON
    is_text = True
    needs_pooling = True

    def __init__(self, plan: AnswerPlan, model: str, *, as_base64: bool) -> None:
        super().__init__(plan)
        self._model = model
        self._as_base64 = as_base64
        self._index = 0

    def begin(self) -> Iterator[Chunk]:
        yield b'{"object":"list","data":['

    def block(self, block: Block) -> Iterator[Chunk]:
        if self._as_base64:
            embedding = b'"' + base64.b64encode(block.values.astype("<f4").tobytes()) + b'"'
        else:
            embedding = json_values.array(block.values)
        separator = b"," if self._index else b""
        head = json_values.open_object({"object": "embedding", "index": self._index})
        self._index += 1
        yield separator + head + b',"embedding":' + embedding + b"}"

    def end(self) -> Iterator[Chunk]:
        n_tokens = self.plan.prepared.n_tokens
        tail = {
            "model": self._model,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }
        yield b"]," + orjson.dumps(tail)[1:]
