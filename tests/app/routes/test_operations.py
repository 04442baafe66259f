"""Facts, documentation and metrics of a server."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.unproven import unproven
from converter.network.heads import LeftOutHead
from tests.support.running import Server, running
from tests.support.stand_in_bundle import make_bundle

CLASSIFIER = LeftOutHead("classifier", "sequence classifier", 2, ("promoter", "other"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("operations") / "bundle"
    bundle = make_bundle(folder, left_out=(CLASSIFIER, LeftOutHead("pooler", "pooler")))
    with running(
        GENA_BUNDLE=str(bundle), GENA_MAX_BODY_BYTES="100000", GENA_METRICS="false"
    ) as server:
        server.wait_for("ready")
        yield server


def test_info_identifies_the_answers_and_states_the_limits(server: Server) -> None:
    info = server.http.get("/info").json()
    assert info["model"] == "stand-in"
    assert info["bundle"]["checkpoint_sha256"]["weights"] == "w"
    assert len(info["bundle"]["fingerprint"]) == 16
    assert info["limits"]["body_bytes"] == 100_000
    assert info["limits"]["tokens_per_window"] == 512
    assert info["runtime"]["lengths"] == [128, 512]
    assert info["letters"] == "ACGTN"
    assert "tokenizers" in info["versions"]
    # What the README's sentence is made of, see test_unproven.
    assert info["never_run_on_a_mac"] == [entry.text for entry in unproven()]


def test_info_and_health_of_a_model_of_longer_windows(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", lengths=(128, 1024))
    with running(GENA_BUNDLE=str(bundle), GENA_QUEUE_TOKENS="1023") as server:
        error = server.wait_for("failed")["error"]
        assert error["code"] == "queue.too_small"
        assert "has 1024" in error["message"]
        assert server.http.get("/info").json()["limits"]["tokens_per_window"] == 1024
        refused = server.http.post("/features", json={"sequence": "ACGT"})
        assert (refused.status_code, refused.json()["reason"]) == (503, "queue.too_small")
    with running(GENA_BUNDLE=str(tmp_path / "nothing")) as server:
        server.wait_for("failed")
        assert server.http.get("/info").json()["limits"]["tokens_per_window"] is None


def test_health_info_and_the_log_say_which_head_is_left_out(server: Server) -> None:
    said = "the encoder; left out: sequence classifier of 2 labels (promoter, other), pooler"
    info = server.http.get("/info").json()
    assert server.health()["serves"] == info["serves"] == said
    assert info["bundle"]["left_out"][0] == {
        "name": "classifier",
        "description": "sequence classifier",
        "n_labels": 2,
        "labels": ["promoter", "other"],
        "problem_type": None,
    }
    assert said in server.text


def test_documentation_is_one_page_that_needs_no_other_host(server: Server) -> None:
    page = server.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    paths = server.http.get("/openapi.json").json()["paths"]
    assert "/health" in paths
    for path in paths:
        assert path in page.text
    assert re.findall("<script[^>]*>", page.text) == [
        '<script type="module" src="/static/docs.js">'
    ]
    assert "-F file=@genes.fa" in page.text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)
    assert not re.search(r"style=|<style", page.text)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("path", ["/features", "/embeddings", "/tokenize", "/v1/embeddings"])
def test_what_wants_a_post_shows_a_line_that_works(
    server: Server, tmp_path: Path, path: str
) -> None:
    (tmp_path / "genes.fa").write_text(">a\nACGT\n")
    assert server.http.put(path).json()["detail"] == server.http.get(path).json()["detail"]
    asked = server.http.get(path)
    line = re.search(r"curl .*?(?=\.? This)", asked.json()["detail"])
    assert asked.status_code == 405
    assert line
    curl = [*shlex.split(line[0]), "--fail", "--silent"]
    done = subprocess.run(curl, cwd=tmp_path, capture_output=True, check=True)
    assert b'"records":[{"id":"a"' in done.stdout


PATHS = ["/", "/docs", "/openapi.json", "/static/main.js", "/health", "/info", "/v1/models"]


def test_head_says_what_get_would(server: Server) -> None:
    """`curl -I`, `wget --spider` and monitors ask so."""
    for path in [*PATHS, "/v1/models/stand-in", "/metrics"]:
        asked, got = server.http.head(path), server.http.get(path)
        assert asked.status_code == got.status_code, path
        assert asked.headers["content-type"] == got.headers["content-type"], path
        assert asked.headers["content-length"] == got.headers["content-length"], path
        assert not asked.content


def test_head_says_it_when_there_is_no_model(tmp_path: Path) -> None:
    with running(GENA_BUNDLE=str(tmp_path / "none")) as server:
        server.wait_for("failed")
        for path in [*PATHS, "/metrics"]:
            assert server.http.head(path).status_code == server.http.get(path).status_code, path
        assert server.http.head("/health").status_code == 503


def test_metrics_can_be_off(server: Server) -> None:
    answer = server.http.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (404, "metrics.off")
