"""What takes Core ML's place where there is none."""

from pathlib import Path

import numpy as np

from converter.bundle.opening import Bundle
from converter.fidelity.gates import psnr
from converter.fidelity.golden import Golden
from converter.runtime import coreml_stand_in


def test_it_computes_what_the_reference_does(tiny_bundle: Bundle, tmp_path: Path) -> None:
    compiled = tmp_path / "model.mlmodelc"
    coreml_stand_in.compile_package(tiny_bundle.package, compiled)
    golden = Golden.load(tiny_bundle.golden(), tiny_bundle.manifest.pad_token_id)
    window = golden.index("coding")
    n_tokens = golden.n_tokens(window)
    for length in tiny_bundle.manifest.lengths:
        if n_tokens > length:
            continue
        function = tiny_bundle.interface.core_ml_function(length)
        model = coreml_stand_in.load(compiled, "CPU_AND_NE", function)
        ids = np.ascontiguousarray(golden.input_ids[window : window + 1, :length])
        found = model.predict(tiny_bundle.interface.inputs(ids))["features"][0, :n_tokens]
        assert psnr(golden.reference[window, :n_tokens], found) > 60
    assert coreml_stand_in.placement(compiled, "CPU_AND_NE", None) is None
