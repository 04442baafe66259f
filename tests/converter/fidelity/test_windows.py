"""The verification windows of a converted bundle, and what the reference makes of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from converter.bundle.opening import Bundle
from converter.checkpoint.files import find_checkpoint
from converter.fidelity.golden import Golden
from converter.network.loading import load_checkpoint


@pytest.fixture(scope="module")
def golden(tiny_bundle: Bundle) -> Golden:
    return Golden.load(tiny_bundle.golden(), 3)


def test_the_hidden_states_are_the_references(golden: Golden, tiny_checkpoint: Path) -> None:
    network = load_checkpoint(find_checkpoint(str(tiny_checkpoint))).encoder()
    assert golden.input_ids.shape == (len(golden.names), 512)
    assert golden.n_tokens(golden.index("full_length")) == 512
    assert golden.n_tokens(golden.index("one_token")) >= 3
    for index in range(len(golden.names)):
        n = golden.n_tokens(index)
        with torch.no_grad():
            expected = network(torch.from_numpy(golden.input_ids[index : index + 1, :n]).long())
        np.testing.assert_allclose(golden.reference[index, :n], expected[0], atol=1e-5)
        assert not golden.reference[index, n:].any()
        assert (golden.input_ids[index, n:] == 3).all()


def test_the_windows_cover_what_people_send(golden: Golden) -> None:
    assert set(golden.names) >= {
        "coding", "intergenic", "repeats", "n_runs", "lower_case", "one_token", "full_length",
        "masked",
    }  # fmt: skip
    # Soft-masked DNA reaches the network as DNA, not as unknown letters.
    lower_case = golden.input_ids[golden.index("lower_case")]
    assert not (lower_case == 0).any()


def test_the_masked_window_hides_every_seventh_token_and_no_special(golden: Golden) -> None:
    coding, masked = (golden.input_ids[golden.index(name)] for name in ("coding", "masked"))
    hidden = np.flatnonzero(coding != masked).tolist()
    assert (masked[hidden] == 4).all()
    last = golden.n_tokens(golden.index("coding")) - 1
    assert hidden == list(range(7, last, 7))
    assert len(hidden) > 10
