import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from converter.bundle.opening import open_bundle
from converter.bundle.store import build_lock, building_folder
from converter.errors import BundleError
from tests.support.bundles import build, fill, leftovers
from tests.support.paths import ROOT


def run_python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    documents = tmp_path / "Documents"
    documents.mkdir()
    (documents / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="thesis"):
        build(documents)
    with pytest.raises(BundleError, match="thesis"):
        open_bundle(documents)
    with pytest.raises(BundleError, match="is a file"):
        build(documents / "thesis.tex")
    assert (documents / "thesis.tex").read_text() == "years of work"


def test_a_failed_build_leaves_nothing_and_keeps_the_old_bundle(tmp_path: Path) -> None:
    old = build(tmp_path / "b")

    def refused_build() -> None:
        with build_lock(tmp_path / "b"), building_folder(tmp_path / "b") as folder:
            fill(folder, "new")
            raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        refused_build()
    assert open_bundle(tmp_path / "b").manifest.fingerprint == old
    assert leftovers(tmp_path / "b") == set()


KILLED_BUILDS = """
import json, os, signal, sys
from pathlib import Path
from converter.bundle.opening import open_bundle
from converter.errors import BundleMissingError
from tests.support.bundles import build

destination = Path(sys.argv[1])
old = build(destination, "old")
CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "fcntl.flock"}

def killed_at(step):
    # A child that builds and is killed -9 just before its step-th change of the file system.
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    seen = 0
    def hook(event, args):
        nonlocal seen
        if event in CHANGES:
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    build(destination, f"new {step}")
    os._exit(0)

for step in range(1, 1000):
    killed = killed_at(step)
    try:
        opened = open_bundle(destination).manifest.fingerprint  # raises if it is damaged
    except BundleMissingError:
        opened = None
    rebuilt = build(destination, "old")
    names = sorted(p.name for p in destination.parent.iterdir())
    print(json.dumps({"killed": killed, "opened": opened, "again": rebuilt == old, "names": names}))
    if not killed:
        break
"""


def test_kill_9_at_every_step_never_leaves_a_broken_bundle(tmp_path: Path) -> None:
    child = run_python(KILLED_BUILDS, tmp_path / "b")
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    steps = [json.loads(line) for line in output.splitlines()]
    assert len(steps) > 20
    assert not steps[-1]["killed"]
    for step in steps:
        assert step["again"]
        assert set(step["names"]) <= {"b", ".b.lock"}
    opened = {step["opened"] for step in steps}
    # The kills hit before, in and after the exchange: old bundle, none, and new bundle.
    assert None in opened
    assert len(opened) >= 3


def test_the_bundle_moved_aside_by_a_killed_publish_comes_back(tmp_path: Path) -> None:
    old = build(tmp_path / "b")
    (tmp_path / "b").rename(tmp_path / ".b.retired-1")
    with build_lock(tmp_path / "b"):
        assert open_bundle(tmp_path / "b").manifest.fingerprint == old


BUILD_ONCE = """
import sys
from pathlib import Path
from converter.bundle.opening import open_bundle
from converter.bundle.store import build_lock, building_folder, publish
from converter.errors import BundleMissingError
from tests.support.bundles import fill

destination, log = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with build_lock(destination, on_wait=lambda: print("waiting", flush=True)):
    try:
        open_bundle(destination)
    except BundleMissingError:
        with building_folder(destination) as folder:
            print("building", flush=True)
            sys.stdin.readline()
            fill(folder)
            publish(folder, destination)
            with log.open("a") as file:
                file.write("built\\n")
"""


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    arguments = (tmp_path / "b", tmp_path / "log")
    first, second = run_python(BUILD_ONCE, *arguments), run_python(BUILD_ONCE, *arguments)
    for child in (first, second):
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    say(first, "go")
    assert first.stdout is not None
    assert first.stdout.readline() == "building\n"
    say(second, "go")
    assert second.stdout is not None
    assert second.stdout.readline() == "waiting\n"
    say(first, "finish")
    assert first.wait(timeout=30) == 0
    assert second.wait(timeout=30) == 0
    assert (tmp_path / "log").read_text() == "built\n"
    open_bundle(tmp_path / "b")
    for child in (first, second):
        child.communicate()


def say(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdin is not None
    child.stdin.write(word + "\n")
    child.stdin.flush()


def test_the_lock_of_a_killed_builder_is_free(tmp_path: Path) -> None:
    child = run_python(
        """
        import sys
        from pathlib import Path
        from converter.bundle.store import build_lock, building_folder
        destination = Path(sys.argv[1])
        with build_lock(destination), building_folder(destination) as folder:
            (folder / "tokenizer.json").write_text("{}")
            print("building", flush=True)
            sys.stdin.read()
        """,
        tmp_path / "b",
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "building\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    build(tmp_path / "b")
    assert leftovers(tmp_path / "b") == set()


def test_a_full_disk_is_reported_and_cleared_up(tmp_path: Path) -> None:
    def with_small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    child = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from converter.errors import BundleError\n"
            "from tests.support.bundles import build\n"
            "try: build(Path(sys.argv[1]), 'x' * 10000)\n"
            "except BundleError as error: print(error)\n",
            str(tmp_path / "b"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=with_small_files,
        timeout=60,
    )
    assert "Make room" in child.stdout, child.stderr
    assert not (tmp_path / "b").exists()
    assert leftovers(tmp_path / "b") == set()


def test_a_full_disk_behind_a_librarys_runtime_error_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with (
        pytest.raises(BundleError, match="no space"),
        build_lock(tmp_path / "b"),
        building_folder(tmp_path / "b"),
    ):
        raise RuntimeError("Failed to write weight blob")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(BundleError, match="--output"):
        build(tmp_path / "b")


def test_a_place_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="--output"):
        build(tmp_path / "file" / "b")
