"""What each step says where something is really broken, on a tiny model."""

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

from app.doctor.findings import Agent, ComputeUnits, Load, Suite
from app.doctor.redaction import Redaction
from app.doctor.serving import Server
from app.doctor.visit import Visit
from converter.bundle.opening import Bundle, open_bundle
from tests.support import coreml_stand_in
from tests.support.doctor import outcomes
from tests.support.scenarios import until


def copied(bundle: Bundle, folder: Path) -> Bundle:
    shutil.copytree(bundle.path, folder)
    return open_bundle(folder)


def test_a_bundle_that_cannot_be_served_fails_and_the_rest_goes_on(
    visit: Visit, tiny_bundle: Bundle
) -> None:
    bundle = copied(tiny_bundle, visit.scratch / "copy")
    visit.bundles = {"tiny": bundle}
    weights = next(bundle.package.rglob("weight.bin"))
    weights.write_bytes(weights.read_bytes()[:-1])
    done = outcomes(visit, "units", "load", "restart", "environment")
    assert [done[name].verdict for name in ("units", "load", "restart")] == ["failed"] * 3
    assert "The service failed" in str(done["load"].reason)
    assert "Its log: " in str(done["load"].reason)
    assert "was not compiled" in done["units"].complaints[0]
    assert done["environment"].findings is not None


def test_load_tells_of_a_model_that_was_killed(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit.load_seconds = 3.0
    killed = threading.Event()

    def kill(server: Server) -> dict[str, str]:
        facts = real(server)
        timer = threading.Timer(0.5, lambda: (os.kill(pid, signal.SIGKILL), killed.set()))
        pid = server.model_pid()
        timer.start()
        return facts

    real = Server.facts
    monkeypatch.setattr(Server, "facts", kill)
    done = outcomes(visit, "load")["load"]
    assert killed.is_set()
    assert done.verdict == "failed"
    assert any("restarted 1 times" in each for each in done.complaints)
    assert isinstance(done.findings, Load)
    assert done.findings.requests > 0
    warned = [each.line for each in done.findings.log]
    assert any(line.startswith("model restart: the model process ended") for line in warned)


def test_units_that_crash_do_not_stop_the_others(
    visit: Visit, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "GENA_TEST_COREML",
        json.dumps({"CPU_AND_NE": "crash", "memory": str(visit.scratch)}),
    )
    coreml_stand_in.remember(tiny_bundle)
    visit.library = coreml_stand_in.__name__
    visit.compute_units = ("CPU_AND_NE", "CPU_ONLY")
    done = outcomes(visit, "units")["units"]
    assert done.verdict == "failed"
    assert isinstance(done.findings, ComputeUnits)
    rows = [(row.compute_units, row.outcome) for row in done.findings.checks]
    assert rows == [("CPU_AND_NE", "crashed"), *[("CPU_ONLY", "expected")] * 3]
    assert [each for each in done.complaints if "CPU_AND_NE, 128 tokens" in each]
    for row in done.findings.checks[1:]:
        assert row.psnr_db is not None
        assert row.psnr_db > 60
        assert row.median_ms is not None
        assert row.p95_ms is not None
        assert 0 < row.median_ms <= row.p95_ms
        assert row.memory_mib is not None
        assert row.memory_mib > 30
        assert row.cold_seconds is not None
        assert row.warm_seconds is not None
    # Core ML tells of the default function only.
    assert [row.placement for row in done.findings.checks[1:]] == ["unknown", "unknown", "CPU 43"]


def test_without_curl_the_rest_goes_on(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = visit.scratch / "bin"
    folder.mkdir()
    for tool in ("sw_vers", "sysctl", "pmset"):  # without these a Mac has no Core ML
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    done = outcomes(visit, "environment", "features", "agent")
    assert (done["features"].verdict, done["environment"].verdict) == ("failed", "passed")
    assert done["features"].reason == "curl cannot be run here: No such file or directory."
    # What was known by then is kept.
    assert done["features"].findings is not None
    assert done["agent"].verdict == "skipped"


def test_without_a_bundle_what_needs_one_is_skipped(visit: Visit) -> None:
    visit.bundles = {}
    done = outcomes(visit, "units", "features", "load", "restart")
    assert {step.verdict for step in done.values()} == {"skipped"}


def test_the_suite_is_counted(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = visit.scratch / "some_tests"
    tests.mkdir()
    (tests / "test_some.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 'ACGTACGTACGTACGTACGT' == ''\n"
        "@pytest.mark.skip(reason='no browser')\n"
        "def test_skipped(): pass\n"
    )
    visit.tests = (str(tests),)
    # None of this run; and without plugins that take longer than such tests.
    plugins = ("schemathesis", "hypothesispytest", "anyio")
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(f"-p no:{name}" for name in plugins))
    done = outcomes(visit, "suite")["suite"]
    assert done.verdict == "failed"
    assert isinstance(done.findings, Suite)
    counts = (done.findings.passed, done.findings.failed, done.findings.skipped)
    assert counts == (1, 1, 1)
    assert [(each.count, each.reason) for each in done.findings.reasons] == [(1, "no browser")]
    assert len(done.complaints) == 1
    # With its reason; what it quotes goes before anybody reads it.
    assert "test_bad: AssertionError: assert 'ACGTACGT" in done.complaints[0]
    assert "ACGT" not in Redaction([], []).text(done.complaints[0])


FAKE_SYSTEMCTL = r"""#!{python}
import os, shlex, signal, subprocess, sys
from pathlib import Path
unit, pid = Path(os.environ["XDG_CONFIG_HOME"], "systemd/user/gena-coreml.service"), Path({pid!r})
verb = sys.argv[2]
if verb == "enable":
    lines = unit.read_text().splitlines()
    start = next(l for l in lines if l.startswith("ExecStart=")).removeprefix("ExecStart=")
    pairs = [shlex.split(l.removeprefix("Environment="))[0].split("=", 1)
             for l in lines if l.startswith("Environment=")]
    server = subprocess.Popen(shlex.split(start), env={{**os.environ, **dict(pairs)}},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True)
    pid.write_text(str(server.pid))
elif verb == "disable":
    os.kill(int(pid.read_text()), signal.SIGTERM)
    pid.unlink()
elif verb == "is-active":
    sys.exit(0 if pid.exists() else 3)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="with the system's own manager there")
def test_the_agent_is_installed_and_removed(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, pid = visit.scratch / "bin", visit.scratch / "pid"
    folder.mkdir()
    manager = folder / "systemctl"
    manager.write_text(FAKE_SYSTEMCTL.format(python=sys.executable, pid=str(pid)))
    manager.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(visit.scratch / "config"))
    monkeypatch.setenv("HOME", str(visit.scratch))
    visit.on_a_mac = True
    done = outcomes(visit, "agent")["agent"]
    assert done.verdict == "passed", done.complaints
    assert isinstance(done.findings, Agent)
    assert done.findings.removed
    assert not list((visit.scratch / "config").rglob("*.service"))
    assert not (visit.scratch / ".local" / "state" / "gena-coreml").exists()

    # One that is a person's own is left alone.
    own = visit.scratch / "config/systemd/user/gena-coreml.service"
    own.write_text("mine")
    done = outcomes(visit, "agent")["agent"]
    assert (done.verdict, own.read_text()) == ("skipped", "mine")
    until(lambda: not pid.exists(), "the server was told to end")


def test_the_agent_is_for_a_mac(visit: Visit) -> None:
    done = outcomes(visit, "agent", "tuning")
    assert {step.verdict for step in done.values()} == {"skipped"}
    assert done["agent"].reason == "the launch agent is on macOS only."
