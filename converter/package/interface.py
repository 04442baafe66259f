"""What goes into a package and what comes out of it: names, shapes, checks. No torch in here."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import PackageError, PredictionError
from converter.network.structure import EncoderConfig
from converter.tokenizer_file import SPECIAL_TOKENS

INPUT, OUTPUT = "input_ids", "features"
# What a package takes instead of `INPUT` where tokens are looked up outside.
HOST_INPUTS = ("embeddings", "padding_mask")


class PackageInterface:
    """What goes into a package and what comes out of it, checked.

    Hides where tokens are looked up: in the package, or here (`embedding="host"`).

    Args:
        functions: length in tokens -> name of the package's function for it.
        table: rows of the word table (V, H) float16, where tokens are looked up here.
    """

    def __init__(
        self,
        config: EncoderConfig,
        functions: Mapping[int, str],
        table: NDArray[np.float16] | None = None,
    ) -> None:
        self.config = config
        self._functions = dict(functions)
        self._table = table

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens that a prediction can take, ascending."""
        return tuple(sorted(self._functions))

    @property
    def default_length(self) -> int:
        """The length whose function runs where none is named (see `conversion.build`)."""
        return max(self._functions)

    @property
    def host_table(self) -> NDArray[np.float16] | None:
        """Rows of the word table (V, H), where tokens are looked up here and not in the package."""
        return self._table

    def function(self, length: int) -> str:
        """The package's function for a length."""
        return self._functions[length]

    def require_functions(self, names: Collection[str]) -> None:
        """Raises PackageError: one of its functions is not among these, the package's."""
        for length, name in self._functions.items():
            if name not in names:
                raise PackageError(f"The package has no function {name} for {length} tokens.")

    def core_ml_function(self, length: int) -> str | None:
        """The function's name as Core ML wants it: None where the package has only one."""
        return self._functions[length] if len(self._functions) > 1 else None

    def empty_window(self, length: int) -> NDArray[np.int32]:
        """(1, length) int32: the two specials and padding."""
        window = np.full((1, length), self.config.pad_token_id, dtype=np.int32)
        window[0, :2] = SPECIAL_TOKENS["[CLS]"], SPECIAL_TOKENS["[SEP]"]
        return window

    def padded(self, window: NDArray[np.int32]) -> NDArray[np.int32]:
        """Ids (n,) as (1, L), padded to the shortest length that holds them.

        Raises:
            ValueError: they are too many.
        """
        length = next((length for length in self.lengths if length >= len(window)), None)
        if length is None:
            raise ValueError(f"the package has no length for {len(window)} ids")
        padded = np.full((1, length), self.config.pad_token_id, dtype=window.dtype)
        padded[0, : len(window)] = window
        return padded

    def inputs(self, input_ids: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """The package's inputs by name, for (1, L) ids.

        Raises:
            ValueError: another shape, dtype or length, or ids outside the vocabulary.
        """
        if input_ids.dtype != np.int32 or input_ids.ndim != 2 or input_ids.shape[0] != 1:
            raise ValueError(
                f"input_ids are {input_ids.dtype} {input_ids.shape}; expected int32 (1, L)"
            )
        if input_ids.shape[1] not in self._functions:
            lengths = ", ".join(map(str, self.lengths))
            raise ValueError(f"length {input_ids.shape[1]}; the package has {lengths}")
        self._require_known(input_ids)
        if self._table is None:
            return {INPUT: input_ids}
        on_host = host_inputs(input_ids, self._table, self.config.pad_token_id)
        return {name: np.ascontiguousarray(array) for name, array in on_host.items()}

    def require_window(self, window: NDArray[np.int32]) -> None:
        """Raises ValueError: these are no (n,) int32 ids of a window without padding."""
        if window.dtype != np.int32 or window.ndim != 1:
            raise ValueError(f"a window is {window.dtype} {window.shape}; expected int32 (n,)")
        if not 2 <= len(window) <= self.default_length:
            raise ValueError(f"the package has no length for {len(window)} ids")
        self._require_known(window)
        if (window == self.config.pad_token_id).any():
            raise ValueError("a window holds the id of padding")

    def _require_known(self, ids: NDArray[np.int32]) -> None:
        # Core ML reads beyond the table without a word.
        vocab_size = self.config.vocab_size
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise ValueError(f"ids outside the vocabulary of {vocab_size}")

    def features(
        self, input_ids: NDArray[np.int32], outputs: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float32]:
        """The package's output as (1, L, H) float32, C order.

        Raises:
            PredictionError: it is misshapen or not finite.
        """
        features = np.ascontiguousarray(outputs[OUTPUT], dtype=np.float32)
        expected = (1, input_ids.shape[1], self.config.hidden_size)
        if features.shape != expected:
            raise PredictionError(f"The model gave {features.shape}; expected {expected}.")
        if not np.isfinite(features).all():
            raise PredictionError("The model gave values that are not finite numbers.")
        return features


def host_inputs(
    input_ids: NDArray[np.int32], table: NDArray[np.floating[Any]], pad_id: int
) -> dict[str, NDArray[np.float32]]:
    """`HOST_INPUTS` for (1, L) ids: rows of the table (V, H), and what is no padding.

    Returns:
        By name: rows (1, H, 1, L), a view that is not contiguous; and (1, L) with 1 for tokens
        and 0 for padding.
    """
    rows = table[input_ids[0]].astype(np.float32)  # (L, H)
    values = (rows.T[None, :, None, :], (input_ids != pad_id).astype(np.float32))
    return dict(zip(HOST_INPUTS, values, strict=True))
