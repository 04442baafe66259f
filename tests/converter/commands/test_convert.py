"""`gena convert` in a process of its own: protocol, exit codes, killed, interrupted."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from converter.bundle.opening import open_bundle
from converter.cli import main
from converter.conversion.convert import convert
from converter.errors import BundleError, GenaError
from converter.options import BuildOptions
from converter.runtime.loading import load_runtime
from tests.support.hub import Hub, serving
from tests.support.paths import ROOT, SHARED
from tools.seeded_checkpoints import BERT_BASE, make_checkpoint

OFFICIAL_TOKENIZER = SHARED / "data" / "gena-lm-bert-base" / "tokenizer.json"
STAGES = ("fetch", "read", "convert", "verify", "publish")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer: as fast to convert as can be."""
    return make_checkpoint(tmp_path_factory.mktemp("cli") / "checkpoint", num_hidden_layers=1)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the children keep temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def start(scratch: Path) -> Iterator[Start]:
    """Starts `python -m converter`; whatever still runs at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def start_child(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "converter", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start_child
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            assert pipe is not None
            pipe.close()


def convert_arguments(checkpoint: Path, output: Path, *more: str) -> tuple[str | Path, ...]:
    return (
        "convert", "--model", checkpoint, "--output", output, "--target", "macos14",
        "--progress", "json", *more,
    )  # fmt: skip


def lines_until(
    child: subprocess.Popen[str], stage: str, fraction: float = 0
) -> list[dict[str, Any]]:
    """The child's lines up to the first one of this stage that is so far."""
    assert child.stdout is not None
    lines = []
    for text in child.stdout:
        lines.append(json.loads(text))
        if lines[-1].get("stage") == stage and lines[-1]["fraction"] >= fraction:
            return lines
    raise AssertionError(f"ended before {stage}: {lines[-1:]}")


def debris(folder: Path) -> list[str]:
    """What there is beside checkpoints and locks."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if not entry.name.endswith(".lock") and entry.name != "scratch"
    )


def test_progress_is_json_lines_and_the_last_one_is_the_bundle(
    start: Start, checkpoint: Path, tmp_path: Path, scratch: Path
) -> None:
    child = start(*convert_arguments(checkpoint, tmp_path / "out"))
    # Standard input stays open: closing it would end the conversion.
    assert child.stdout is not None
    lines = [json.loads(line) for line in child.stdout]
    assert child.wait(60) == 0
    described = {name: str(checkpoint / f"{name}.json") for name in ("config", "tokenizer")}
    first, told, *later, last = lines
    assert told == {"described": {"source": checkpoint.name, "commit": None, **described}}
    steps = [first, *later]
    assert list(dict.fromkeys(step["stage"] for step in steps)) == list(STAGES)
    for step in steps:
        assert step.keys() == {"stage", "fraction", "message"}
        assert 0 <= step["fraction"] <= 1
        assert step["message"]
    bundle = open_bundle(tmp_path / "out")
    assert last == {"bundle": str(tmp_path / "out"), "fingerprint": bundle.manifest.fingerprint}
    assert child.stderr is not None
    assert child.stderr.read() == ""
    assert list(scratch.iterdir()) == []
    assert debris(tmp_path) == ["out"]
    # Another process, with another hash seed, builds the same bytes.
    here = convert(
        str(checkpoint), output=tmp_path / "here", options=BuildOptions(target="macos14")
    )
    assert here.manifest.fingerprint == bundle.manifest.fingerprint
    assert here.manifest.files["model.mlpackage/Manifest.json"]
    assert {n: f for n, f in here.manifest.files.items() if n != "golden.npz"} == {
        n: f for n, f in bundle.manifest.files.items() if n != "golden.npz"
    }


def test_an_error_is_the_last_line_and_the_exit_status(start: Start, tmp_path: Path) -> None:
    child = start(*convert_arguments(tmp_path / "absent", tmp_path / "out"))
    assert child.stdout is not None
    assert child.stderr is not None
    *_, last = [json.loads(line) for line in child.stdout]
    assert child.wait(60) == 1
    assert last["error"]["code"] == "checkpoint.unavailable"
    assert "absent" in last["error"]["message"]
    assert child.stderr.read() == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b'{"model_type": "gpt2"}', "supports only bert, modernbert"),
        ("tokenizer.json", b"{}", "no GENA-LM tokenizer file"),
    ],
)
def test_what_is_refused_for_a_small_file_is_refused_before_weights_are_fetched(
    start: Start, checkpoint: Path, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    with serving(Hub(files | {name: content})) as hub:
        child = start(
            *convert_arguments(Path("lab/model"), tmp_path / "out"),
            **hub.environment, HF_HOME=str(tmp_path / "hub"),
        )  # fmt: skip
        assert child.stdout is not None
        *_, last = [json.loads(line) for line in child.stdout]
    assert says in last["error"]["message"]
    assert not [path for _, path, _ in hub.requests if "pytorch_model" in path]


@pytest.mark.parametrize("stage", ["convert", "verify"])
def test_it_ends_when_its_parent_is_gone(
    start: Start, checkpoint: Path, tmp_path: Path, scratch: Path, stage: str
) -> None:
    child = start(*convert_arguments(checkpoint, tmp_path / "out"))
    lines_until(child, stage)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(60) == 130
    assert debris(tmp_path) == []
    assert list(scratch.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(
    start: Start, checkpoint: Path, tmp_path: Path, scratch: Path
) -> None:
    child = start(*convert_arguments(checkpoint, tmp_path / "out"))
    lines_until(child, "convert")
    child.send_signal(signal.SIGTERM)
    # With stdin open: its end would interrupt once more, and of two that arrive in a long call of a
    # library Python hands on the lower number first.
    assert child.wait(60) == 128 + signal.SIGTERM
    _, errors = child.communicate()
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert debris(tmp_path) == []
    assert list(scratch.iterdir()) == []


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)  # the handler runs here, or has run


def test_what_a_library_makes_of_an_interrupt_is_an_interrupt(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def importing(*_: Any, **__: Any) -> None:
        try:
            interrupted()
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    monkeypatch.setattr("converter.conversion.convert.convert", importing)
    assert main(["convert", "--model", str(checkpoint), "--progress", "none"]) == 130
    assert capsys.readouterr().err.startswith("interrupted; ")


def test_an_interrupt_that_a_library_swallows_is_not_lost(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = []

    def swallowing(*_: Any, on_progress: Callable[[str, float, str], None], **__: Any) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            interrupted()
        on_progress("publish", 0.5, "Publishing the bundle")
        published.append(True)

    monkeypatch.setattr("converter.conversion.convert.convert", swallowing)
    before = signal.getsignal(signal.SIGINT)
    assert main(["convert", "--model", str(checkpoint), "--progress", "none"]) == 130
    assert not published
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("chosen", "folder"),
    [("~/bundles", "{home}/bundles/gena-mini"), ("", f"{ROOT}/models/bundles/gena-mini")],
)
def test_the_environment_says_where_bundles_lie(
    chosen: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = []

    def refusing(*_: Any, output: Path, **__: Any) -> None:
        outputs.append(output)
        raise GenaError("far enough")

    monkeypatch.setattr("converter.conversion.convert.convert", refusing)
    monkeypatch.setenv("GENA_BUNDLES", chosen)
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["convert", "--model", "gena-mini", "--progress", "none"]
    assert main(arguments) == 1
    assert main([*arguments, "--output", str(tmp_path / "named")]) == 1
    assert outputs == [Path(folder.format(home=tmp_path)), tmp_path / "named"]


@pytest.mark.long
def test_killed_at_any_point_the_next_conversion_gives_a_valid_bundle(
    start: Start, checkpoint: Path, tmp_path: Path, scratch: Path
) -> None:
    output = tmp_path / "out"
    # At (convert, 0.5) the first package lies in its scratch folder.
    for stage, fraction in (
        ("read", 0), ("convert", 0.5), ("verify", 0), ("publish", 0),
    ):  # fmt: skip
        child = start(*convert_arguments(checkpoint, output))
        lines_until(child, stage, fraction)
        child.kill()
        # The last stages are short: on a busy machine they are over before the signal comes.
        assert child.wait(60) == -signal.SIGKILL or stage in ("verify", "publish")
        # Nothing, or a whole bundle where the last rename was done already; never half of one.
        try:
            open_bundle(output)
        except BundleError:
            assert not output.exists()
            if stage == "convert":
                assert any("building" in name for name in debris(tmp_path))
        else:
            assert stage in ("verify", "publish")
            shutil.rmtree(output)
    # What killed conversions leave is beside the destination, and swept by the next one.
    assert list(scratch.iterdir()) == []
    bundle = convert(str(checkpoint), output=output, options=BuildOptions(target="macos14"))
    assert bundle.manifest.fidelity["flag"] == "expected"
    load_runtime(bundle, runtime="mil", threads=1).warm_up()
    assert debris(tmp_path) == ["out"]


def test_a_person_gets_a_summary(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = make_checkpoint(
        tmp_path / "tuned", num_hidden_layers=1, architectures=["BertForTokenClassification"]
    )
    tensors = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    tensors["classifier.weight"] = torch.ones(3, 64)
    torch.save(tensors, checkpoint / "pytorch_model.bin")
    arguments = ["convert", "--model", str(checkpoint), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--target", "macos14", "--progress", "bar"]) == 0
    shown = capfd.readouterr()
    assert str(tmp_path / "out") in shown.out
    assert open_bundle(tmp_path / "out").manifest.fingerprint in shown.out
    assert "package, every operation in fp16" in shown.out
    assert (
        "serves the encoder; left out: token classifier of 3 labels, masked-language-model head, "
        "next-sentence head, pooler\n"
    ) in shown.out
    assert "100%" in shown.err
    # One display: of what coremltools and torch print, nothing.
    for noise in ("Running MIL", "Converting PyTorch", "passes/s", "Warning"):
        assert noise not in shown.err + shown.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ffn-chunks", "3"], "128 channels .* 3 chunks"),
        (["--layout", "published", "--embedding", "host"], "published layout"),
        (["--layout", "published", "--ffn-chunks", "2"], "published layout"),
    ],
)
def test_options_that_do_not_go_together_are_an_error(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    arguments = ["convert", "--model", str(checkpoint), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--progress", "none", *options]) == 1
    assert re.search(f"^error: .*{message}", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.full_size
def test_bert_base_converts_within_its_memory(tmp_path: Path, start: Start) -> None:
    """12 x 768, vocabulary of 32000. Its time is the benchmarks' affair."""
    if not OFFICIAL_TOKENIZER.is_file():
        pytest.skip("the official tokenizer is not here")
    folder = make_checkpoint(
        tmp_path / "c", tokenizer_file=OFFICIAL_TOKENIZER, **BERT_BASE, last_layer_norm=False
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # All lengths, as people convert it: most windows are executed at a short one, which takes less.
    child = start(*convert_arguments(folder, tmp_path / "out", "--target", "macos15"))
    assert child.stdout is not None
    lines = [json.loads(line) for line in child.stdout]
    assert child.wait(60) == 0, lines[-1]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # The largest of all children so far: if that is not this one, this one was smaller.
    unit = 1 if sys.platform == "darwin" else 2**10  # of ru_maxrss, in bytes
    assert max(peak, before) * unit < 4 * 2**30
    bundle = open_bundle(tmp_path / "out")
    assert bundle.manifest.fidelity["flag"] == "expected"
