"""What a package is compared with: windows of DNA and the reference's hidden states. No torch."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from converter.errors import BundleError

# Names of windows that something is done with; `windows` makes them.
CODING, INTERGENIC, FULL_LENGTH, MASKED = "coding", "intergenic", "full_length", "masked"
REPEATS, ONE_TOKEN = "repeats", "one_token"


@dataclass(frozen=True)
class Golden:
    """Windows and what the reference makes of them; stored in every bundle.

    Attributes:
        names: what each window is, such as "coding" or "full_length".
        input_ids: (n, W) int32, padded to the window of the model.
        reference: (n, W, H) float32, fp32 reference network; rows of padding are zero.
        pad_id: of `input_ids`.
    """

    names: tuple[str, ...]
    input_ids: NDArray[np.int32]
    reference: NDArray[np.float32]
    pad_id: int

    def index(self, name: str) -> int:
        """Where a window is; ValueError if it is nowhere."""
        return self.names.index(name)

    def n_tokens(self, index: int) -> int:
        """Real rows of a window, specials included."""
        return int((self.input_ids[index] != self.pad_id).sum())

    def save(self, path: Path) -> None:
        """Write an `.npz` file, without the id of padding."""
        np.savez_compressed(
            path, names=np.array(self.names), input_ids=self.input_ids, reference=self.reference
        )

    @classmethod
    def load(cls, source: Path | BinaryIO, pad_id: int) -> "Golden":
        """Read what `save` wrote.

        Raises:
            BundleError: it is something else.
        """
        try:
            with np.load(source, allow_pickle=False) as arrays:
                names = tuple(str(name) for name in arrays["names"])
                golden = cls(names, arrays["input_ids"], arrays["reference"], pad_id)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise BundleError(f"golden.npz holds no golden windows ({error}).") from error
        if (
            golden.input_ids.ndim != 2
            or len(golden.input_ids) != len(names)
            or (golden.reference.shape[:2] != golden.input_ids.shape)
        ):
            raise BundleError("golden.npz holds windows of another shape.")
        return golden
