"""What only a Mac answers: as it is documented to, and as this machine fails to."""

import json
import platform
import sys

import pytest

from app.doctor import compute_units, environment, tuning
from app.doctor.findings import Environment, Installation, Tuning
from app.doctor.visit import Visit
from converter.bundle.opening import Bundle
from converter.runtime.device_check import DeviceCheck
from tests.support.doctor import outcomes

SAID = {
    "sw_vers -productVersion": "26.1",
    "sysctl -n kern.osversion": "25B78",
    "sysctl -n hw.model": "Mac16,1",
    "sysctl -n machdep.cpu.brand_string": "Apple M4",
    "sysctl -n hw.perflevel0.physicalcpu": "4",
    "pmset -g batt": "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t81%;",
    "pmset -g": "System-wide power settings:\nCurrently in use:\n lowpowermode         1\n sleep 1",
}


def a_mac(monkeypatch: pytest.MonkeyPatch, machine: str, version: str) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "mac_ver", lambda: (version, ("", "", ""), machine))
    monkeypatch.setattr(environment, "_said", lambda *command: SAID.get(" ".join(command), ""))


def test_the_machine_as_its_tools_tell_of_it(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python says 16.0 where it was built for an older macOS.
    a_mac(monkeypatch, "arm64", "16.0")
    found = next(environment.examine_environment(visit))
    assert isinstance(found, Environment)
    assert found.problems == ()
    assert (found.system, found.machine) == ("macOS 26.1 (25B78)", "Mac16,1")
    assert found.processor == "Apple M4, 4 performance cores"
    assert found.power == "Battery Power, low power mode"


def test_a_mac_that_is_too_old_or_has_no_apple_silicon(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_mac(monkeypatch, "x86_64", "13.6")
    problems = next(environment.examine_environment(visit)).problems
    assert problems[0] == "macOS 14 or later is needed."
    assert "Apple silicon" in problems[1]


@pytest.mark.skipif(sys.platform == "darwin", reason="it has the native part, and can tune")
def test_without_the_part_of_coremltools_that_predicts(visit: Visit) -> None:
    visit.on_a_mac = True
    done = outcomes(visit, "installation", "tuning")
    assert {step.verdict for step in done.values()} == {"failed"}
    installation, tuned = (step.findings for step in done.values())
    assert isinstance(installation, Installation)
    assert installation.core_ml == "cannot be called"
    assert "libcoremlpython" in installation.problems[0]
    assert isinstance(tuned, Tuning)
    assert [row.compute_units for row in tuned.choices] == [None]
    assert "macOS only" in tuned.problems[0]


def test_the_choice_is_found_among_what_core_ml_prints() -> None:
    measured = [
        {"compute_units": "CPU_ONLY", "placement": {"512": {"CPU": 43}}},
        {"compute_units": "CPU_AND_NE", "placement": {"512": {"NeuralEngine": 40, "CPU": 3}}},
        {"compute_units": "CPU_AND_GPU", "placement": {}},
    ]

    def choice(units: str | None) -> tuple[str | None, str]:
        printed = json.dumps([{"choice": units, "measurements": measured}], indent=2)
        return tuning._choice(f"gena: measuring ALL ...\nE5RT: [1]\n{printed}\nbye")

    assert choice("CPU_AND_NE") == ("CPU_AND_NE", "NeuralEngine 40, CPU 3")
    assert choice("CPU_AND_GPU") == ("CPU_AND_GPU", "unknown")
    assert choice(None) == (None, "unknown")
    error = "error: gena tune measures Core ML, which is on macOS only."
    assert tuning._choice(error) == (None, "unknown")


@pytest.mark.parametrize(
    ("placement", "virtual", "said"),
    [
        ({"512": {"NeuralEngine": 40, "CPU": 3}}, "0", []),
        ({"512": {"CPU": 43}}, "0", ["m, CPU_AND_NE, 512 tokens: none of it is on the engine."]),
        ({"512": {"CPU": 43}}, "1", []),  # there is no engine
        ({}, "0", []),  # nobody knows
    ],
)
def test_a_mac_that_leaves_its_neural_engine_out(
    visit: Visit,
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    placement: dict[str, dict[str, int]],
    virtual: str,
    said: list[str],
) -> None:
    a_mac(monkeypatch, "arm64", "15.5")
    monkeypatch.setitem(SAID, "sysctl -n kern.hv_vmm_present", virtual)
    well = DeviceCheck("CPU_AND_NE", "expected", "", placement=placement)
    monkeypatch.setattr(compute_units, "check_device", lambda *_, **__: well)
    monkeypatch.setattr(compute_units, "_compile", lambda *_: (visit.scratch, 1.0))
    visit.on_a_mac, visit.compute_units = True, ("CPU_AND_NE",)
    visit.bundles = {"m": tiny_bundle}
    done = outcomes(visit, "environment", "units")
    assert [each for each in done["units"].complaints if "512" in each] == said
    machine = done["environment"].findings
    assert isinstance(machine, Environment)
    assert machine.virtual is (virtual == "1")
