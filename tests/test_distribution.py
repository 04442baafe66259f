"""What a stranger installs: built from the clone, run where the clone is not."""

import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.running import running
from tests.support.tracked import tracked_files

# All of it: one worker builds the distributions, and begins with them.
pytestmark = pytest.mark.long

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHIPPED = Path("models", "gena-mini")


@dataclass(frozen=True)
class Distributions:
    source: Path
    wheel: Path


@dataclass(frozen=True)
class Installed:
    """An environment that the wheel was installed into, and a home, elsewhere."""

    bin: Path
    home: Path

    def run(self, *command: str) -> str:
        """Standard output of a command of this environment; its working directory is empty."""
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.home,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PYTHONPATH": "", "GENA_BUNDLES": "", "GENA_THREADS": "1"}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The wheel is built from the source distribution, without a network."""
    clone, built = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("built")
    for path in tracked_files():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, clone / path)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(clone)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    (source,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    return Distributions(source, wheel)


@pytest.fixture(scope="module")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Of the tests' own environment it sees what this project needs, not the project itself."""
    folder, home = tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("home")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    pip += ["install", "--quiet", "--no-index", "--no-deps", str(distributions.wheel)]
    subprocess.run(pip, check=True, timeout=200)
    packages = next(folder.glob("lib/python*/site-packages"))
    # A folder that is named in a .pth file gives its packages, and its own .pth files count not:
    # they are how an editable install leads to the clone.
    (packages / "needed.pth").write_text("\n".join(site.getsitepackages()))
    return Installed(python.parent, home)


def test_the_wheel_holds_the_packages_and_the_shipped_model_and_nothing_else(
    distributions: Distributions,
) -> None:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licences = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    expected = {str(path) for path in tracked_files() if path.parts[0] in ("app", "converter")}
    expected |= {
        f"converter/shipped/gena-mini/{path.name}"
        for path in tracked_files()
        if path.parent == SHIPPED
    }
    assert "converter/fidelity/verification.fa" in expected
    assert names == expected
    assert len(licences) == 1


def test_the_source_distribution_is_the_whole_clone(distributions: Distributions) -> None:
    with tarfile.open(distributions.source) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {str(path) for path in tracked_files()} - names == set()


def test_the_version_is_that_of_the_newest_release_in_the_changelog() -> None:
    releases = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == PROJECT["version"]


def test_it_converts_and_serves_the_shipped_model_without_the_clone(installed: Installed) -> None:
    where = "import app, converter; print(app.__file__, converter.__file__)"
    for path in installed.run("python", "-c", where).split():
        assert Path(path).is_relative_to(installed.bin.parent)

    printed = installed.run("gena", "convert", "--model", "gena-mini", "--progress", "none")

    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    bundle = installed.home / caches / "gena-coreml" / "gena-mini"
    assert (bundle / "manifest.json").is_file(), printed

    serve = (str(installed.bin / "gena"), "serve", "--model", "gena-mini")
    with running(serve, folder=installed.home, **installed.environment) as server:
        assert server.wait_for("ready")["model"] == "gena-mini"
        assert server.http.get("/info").json()["versions"]["gena-coreml"] == PROJECT["version"]
        answer = server.http.post("/features", json={"sequence": "ATGGGTAAAGGATCCTTAACC"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["shape"] == [1, 512, 768]
