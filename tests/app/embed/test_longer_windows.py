"""`gena embed` asks for windows that the model has, whatever their size."""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from app.embed.errors import UsageError
from app.embed.options import add_options, read_options, require_fitting
from app.embed.shards import shard_path
from tests.support.embedding import run
from tests.support.live_service import Service, Truth, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Of a model that reads 1,024 tokens at a time."""
    with running(Truth.make(tmp_path_factory.mktemp("longer"), 1024)) as service:
        yield service


def test_a_service_is_asked_for_windows_as_its_model_has_them(
    tmp_path: Path, service: Service
) -> None:
    path, folder = tmp_path / "n.fa", tmp_path / "v"
    path.write_text(f">n\n{'NACGT' * 342}\n")
    command = (path, "-o", folder, "--url", service.url)
    refused = run(*command, "--overlap", 1022)
    assert refused.returncode == 2, refused.stderr
    assert "--overlap has to be less than a window of 1022 tokens" in refused.stderr
    assert not folder.exists()
    done = run(*command, "--overlap", 1021)
    assert done.returncode == 0, done.stderr
    query = {"format": "npz", "overflow": "window", "stride": 1021}
    answer = service.post("/embeddings", params=query, content=path.read_bytes())
    expected = np.load(io.BytesIO(answer.content))
    assert expected["n_tokens"].tolist() == [1024] * 5
    (vector,) = pq.read_table(shard_path(folder, 0)).column("embedding").to_pylist()
    np.testing.assert_array_equal(np.float32(vector), expected["features"][0])


@dataclass
class Facts:
    """See `app.embed.embedder.Model`."""

    window: int
    model: str = "lab/m"
    fingerprint: str = "f" * 16
    hidden_size: int = 4


def require_that_it_fits(window: int, *arguments: str) -> None:
    """As the command does, once the model is known."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = read_options(parser.parse_args(["x.fa", "-o", "v", *arguments]))
    require_fitting(options, Facts(window))


@pytest.mark.parametrize("most", [510, 1022])
def test_what_fits_a_window_of_the_model(most: int) -> None:
    overlap = ("--overlap", str(most - 1))
    for cut in ((), ("--windows", "4000"), ("--tokens", str(most))):
        require_that_it_fits(most + 2, *cut, *overlap)


@pytest.mark.parametrize("most", [510, 1022])
def test_what_does_not_fit_a_window_of_the_model(most: int) -> None:
    with pytest.raises(UsageError, match=f"--tokens {most + 1}: .* {most} at a time"):
        require_that_it_fits(most + 2, "--tokens", str(most + 1))
    for cut in ((), ("--windows", "4000"), ("--tokens", str(most))):
        with pytest.raises(UsageError, match=f"--overlap .* a window of {most} tokens"):
            require_that_it_fits(most + 2, *cut, "--overlap", str(most))
