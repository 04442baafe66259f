"""modernGENA through the converter, a real server and both runtimes, against transformers."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from app.embed.shards import shard_path
from converter.checkpoint.files import find_checkpoint
from converter.conversion.convert import convert
from converter.network.loading import load_checkpoint
from converter.network.moderngena.reference import ModernGenaEncoder
from converter.tokenizer import DnaTokenizer
from tests.support.dna import windows_by_hand
from tests.support.embedding import run, write_fasta
from tests.support.moderngena import of_transformers
from tests.support.running import Server, running
from tools.seeded_moderngena import make_moderngena

SERVE = (sys.executable, "-m", "app.cli", "serve")
WINDOW, HIDDEN = 1024, 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_moderngena(
        tmp_path_factory.mktemp("moderngena") / "c", num_hidden_layers=4, outliers=3
    )


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    return convert(str(checkpoint), output=checkpoint.with_name("b")).path


@pytest.fixture(scope="module", params=["torch", "mil"])
def server(request: pytest.FixtureRequest, bundle: Path) -> Iterator[Server]:
    command = (*SERVE, "--bundle", str(bundle), "--runtime", request.param, "--threads", "1")
    with running(command) as started:
        started.wait_for("ready")
        yield started


@pytest.fixture(scope="module")
def truth(checkpoint: Path) -> nn.Module:
    network = load_checkpoint(find_checkpoint(str(checkpoint))).encoder()
    assert isinstance(network, ModernGenaEncoder)
    return of_transformers(network, "sdpa")


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> DnaTokenizer:
    return DnaTokenizer(checkpoint / "tokenizer.json", model_max_length=WINDOW)


def dna_of(tokenizer: DnaTokenizer, own_tokens: int) -> str:
    """Random bases that are just so many tokens."""
    letters = np.random.default_rng(own_tokens).choice(list("ACGT"), 8 * own_tokens + 8)
    ids = tokenizer.encode("".join(letters)).ids[:own_tokens]
    dna = "".join(tokenizer.tokens(ids))
    assert len(tokenizer.encode(dna).ids) == own_tokens
    return dna


@pytest.mark.parametrize("n_tokens", [3, 66, 200, 513, 1024])
def test_features_are_those_of_transformers(
    server: Server, truth: nn.Module, tokenizer: DnaTokenizer, n_tokens: int
) -> None:
    dna = dna_of(tokenizer, n_tokens - 2)
    answer = server.http.post("/features?format=npy", json={"sequence": dna})
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Gena-Tokens"] == str(n_tokens)
    rows = np.load(io.BytesIO(answer.content))
    assert rows.shape == (1, WINDOW, HIDDEN)
    assert not rows[0, n_tokens:].any()
    ids = torch.tensor([[1, *tokenizer.encode(dna).ids, 2]])
    with torch.no_grad():
        expected = truth(ids).last_hidden_state[0].numpy()
    error = np.sqrt(np.mean((rows[0, :n_tokens] - expected) ** 2))
    assert 20 * np.log10(np.abs(expected).max() / error) >= 60


def test_what_is_longer_than_its_window_is_told_with_its_window(
    server: Server, tokenizer: DnaTokenizer
) -> None:
    dna = dna_of(tokenizer, 1500)
    refused = server.http.post("/embeddings", json={"sequence": dna})
    assert refused.status_code == 422
    assert refused.json()["limit"] == WINDOW
    cut = server.http.post("/features?overflow=window&format=npy", json={"sequence": dna})
    assert np.load(io.BytesIO(cut.content)).shape == (2, WINDOW, HIDDEN)


def test_its_card_says_what_it_is(server: Server) -> None:
    info = server.http.get("/info").json()
    assert info["limits"]["tokens_per_window"] == WINDOW
    assert info["bundle"]["hidden_size"] == HIDDEN
    assert info["bundle"]["config"]["model_type"] == "modernbert"


def test_gena_embed_takes_all_the_tokens_of_its_windows(
    tmp_path: Path, bundle: Path, truth: nn.Module, tokenizer: DnaTokenizer
) -> None:
    genome, folder = tmp_path / "genome.fa", tmp_path / "v"
    ((_, sequence),) = write_fasta(genome, [6_000])
    done = run(genome, "-o", folder, "--bundle", bundle, "--tokens", WINDOW - 2, "--overlap", 100)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(shard_path(folder, 0)).to_pylist()
    encoding = tokenizer.encode(sequence.upper())
    windows = windows_by_hand(len(encoding.ids), 100, WINDOW - 2)
    assert len(rows) == len(windows) == 3
    for row, (first, end) in zip(rows, windows, strict=True):
        assert row["n_tokens"] == end - first + 2
        offsets = encoding.offsets[first:end]
        assert (row["start"], row["end"]) == (offsets[0, 0], offsets[-1, 1])
        with torch.no_grad():
            features = truth(torch.tensor([[1, *encoding.ids[first:end], 2]])).last_hidden_state
        expected = features[0, 1:-1].mean(dim=0).numpy()
        error = np.sqrt(np.mean((np.array(row["embedding"]) - expected) ** 2))
        assert 20 * np.log10(np.abs(expected).max() / error) >= 60
