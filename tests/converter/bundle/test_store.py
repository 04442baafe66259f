import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.bundle.opening import open_bundle
from converter.bundle.store import build_lock, building_folder, publish, tidy
from converter.digests import sha256_file
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


# With "exchange" two folders change places in one step, where the system can do that; "steps" is
# a system that cannot.
WAYS = ["exchange", "steps"]
PUBLISHING = """
import os, signal, sys
from pathlib import Path
from converter.bundle import store
from tests.support.bundles import build

destination, way = Path(sys.argv[1]), sys.argv[2]
exchange = store.exchange if way == "exchange" else lambda *_: False
"""

KILLED_BUILDS = (
    PUBLISHING
    + """
import json
from converter.bundle.opening import open_bundle
from converter.errors import BundleMissingError

old = build(destination, "old")
CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "fcntl.flock"}

def heard(*paths):
    sys.audit("os.rename", *paths)  # calls of the C library are not heard otherwise
    done = exchange(*paths)
    sys.audit("os.rename", *paths)
    return done

store.exchange = heard

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

def opened():
    try:
        return open_bundle(destination).manifest.fingerprint  # raises if it is damaged
    except BundleMissingError:
        return None

for step in range(1, 1000):
    killed = killed_at(step)
    found = opened()
    store.tidy(destination)
    tidied, names = opened(), sorted(p.name for p in destination.parent.iterdir())
    again = build(destination, "old") == old
    print(json.dumps(dict(killed=killed, opened=found, tidied=tidied, again=again, names=names)))
    if not killed:
        break
"""
)


@pytest.mark.parametrize("way", WAYS)
def test_kill_9_at_every_step_never_leaves_a_broken_bundle(tmp_path: Path, way: str) -> None:
    child = run_python(KILLED_BUILDS, tmp_path / "b", way)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    steps = [json.loads(line) for line in output.splitlines()]
    assert len(steps) > 20
    assert not steps[-1]["killed"]
    for step in steps:
        assert step["again"]
        assert step["tidied"] is not None
        assert set(step["names"]) <= {"b", ".b.lock"}
    opened = {step["opened"] for step in steps}
    # The kills hit before and after: the old bundle and several new ones; in two steps also none.
    assert len(opened) >= 3
    assert (None in opened) == (way == "steps")


@pytest.mark.parametrize("way", WAYS)
def test_whoever_reads_while_bundles_are_published_never_finds_none(
    tmp_path: Path, way: str
) -> None:
    fingerprints = {build(tmp_path / "b", content) for content in ("odd", "even")}
    publisher = run_python(
        PUBLISHING
        + """
import time
store.exchange, rename = exchange, Path.rename

def slow_rename(path, target):
    rename(path, target)
    time.sleep(0.01)  # an instant that nobody misses

Path.rename = slow_rename
for number in range(50):
    build(destination, ("odd", "even")[number % 2])
""",
        tmp_path / "b",
        way,
    )
    n_reads = 0
    while publisher.poll() is None:
        assert open_bundle(tmp_path / "b").manifest.fingerprint in fingerprints
        n_reads += 1
    _, errors = publisher.communicate()
    assert publisher.returncode == 0, errors
    assert n_reads > 10
    assert leftovers(tmp_path / "b") == set()


def test_a_reader_outlasts_the_same_bundle_published_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = build(tmp_path / "b", "odd")
    instants = iter(range(3))

    def met_by_publishers(path: Path) -> str:
        if next(instants, None) is not None:
            for content in ("even", "odd"):
                build(tmp_path / "b", content)
            raise FileNotFoundError(errno.ENOENT, "as between two steps", str(path))
        return sha256_file(path)

    monkeypatch.setattr("converter.bundle.opening.sha256_file", met_by_publishers)
    assert open_bundle(tmp_path / "b").manifest.fingerprint == old
    assert next(instants, None) is None


def test_the_bundle_moved_aside_by_a_killed_publish_comes_back(tmp_path: Path) -> None:
    old = build(tmp_path / "b")
    (tmp_path / "b").rename(tmp_path / ".b.retired-1")
    with build_lock(tmp_path / "b"):
        assert open_bundle(tmp_path / "b").manifest.fingerprint == old


def test_leftovers_go_but_no_link_is_followed(tmp_path: Path) -> None:
    thesis = tmp_path / "Documents" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    for name in (".b.building-1", ".b.retired-1"):
        (tmp_path / name).symlink_to(thesis.parent)
    (tmp_path / ".b.building-2").mkdir()
    (tmp_path / ".b.building-2" / "link").symlink_to(thesis.parent)
    kept = {"Documents", ".c.building-1", ".b.building-x.lock", ".b.building-1.building-2"}
    for name in kept - {"Documents"}:
        (tmp_path / name).mkdir()
    tidy(tmp_path / "b")
    assert leftovers(tmp_path / "b") == kept
    assert not (tmp_path / "b").exists()
    assert thesis.read_text() == "years of work"


def test_where_there_is_nothing_to_sweep_nothing_is_written(tmp_path: Path) -> None:
    fill(tmp_path / "b")
    tidy(tmp_path / "b")
    tidy(tmp_path / "absent" / "b")
    assert {p.name for p in tmp_path.iterdir()} == {"b"}


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch], ids=["a pipe", "a file"])
@pytest.mark.parametrize("kind", ["building", "retired"])
def test_leftovers_that_are_no_folders_go_as_well(
    tmp_path: Path, make: Callable[[Path], None], kind: str
) -> None:
    build(tmp_path / "b")
    make(tmp_path / f".b.{kind}-1a2b3c")
    signal.alarm(10)
    try:
        tidy(tmp_path / "b")
    finally:
        signal.alarm(0)
    assert leftovers(tmp_path / "b") == set()


def test_what_another_process_is_building_is_left_alone(tmp_path: Path) -> None:
    child = run_python(BUILD_ONCE, tmp_path / "b", tmp_path / "log")
    say(child, "go")
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == ["ready\n", "building\n"]
    tidy(tmp_path / "b")
    say(child, "finish")
    assert child.wait(timeout=30) == 0
    child.communicate()
    open_bundle(tmp_path / "b")


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with build_lock(tmp_path / "b"), building_folder(tmp_path / "b") as folder:
            fill(folder)
            for path in folder.rglob("*"):  # as libraries leave what began as a temporary file
                path.chmod(0o700 if path.is_dir() else 0o600)
            publish(folder, tmp_path / "b")
    finally:
        os.umask(before)
    for path in (tmp_path / "b", *(tmp_path / "b").rglob("*")):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_bundle_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = build(tmp_path / "b")

    def busy(*_: Path) -> bool:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("converter.bundle.store.exchange", busy)
    with pytest.raises(BundleError, match="busy"):
        build(tmp_path / "b", "new")
    assert open_bundle(tmp_path / "b").manifest.fingerprint == old
    assert leftovers(tmp_path / "b") == set()


def test_an_interrupt_between_the_two_steps_brings_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = build(tmp_path / "b")
    rename = Path.rename

    def interrupted_rename(path: Path, target: Path) -> Path:
        if ".building-" in path.name:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr("converter.bundle.store.exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", interrupted_rename)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "b", "new")
    assert open_bundle(tmp_path / "b").manifest.fingerprint == old
    assert leftovers(tmp_path / "b") == set()


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
        from converter.bundle.store import build_lock, building_folder, publish, tidy
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


def test_a_place_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="--output"):
        build(tmp_path / "file" / "b")
