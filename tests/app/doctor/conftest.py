"""A run that has converted a tiny model."""

from pathlib import Path

import pytest

from app.doctor.visit import Visit
from converter.bundle.opening import Bundle


@pytest.fixture
def visit(tmp_path: Path, tiny_bundle: Bundle) -> Visit:
    return Visit(
        scratch=tmp_path,
        library="converter.runtime.coreml_stand_in",
        on_a_mac=False,
        compute_units=("CPU_ONLY",),
        repeats=2,
        load_seconds=1.0,
        clients=2,
        bundles={"tiny": tiny_bundle},
    )
