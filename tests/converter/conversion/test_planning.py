"""What is measured before anything is built."""

from pathlib import Path

from converter.checkpoint.files import find_checkpoint
from converter.conversion.planning import measure_scales
from converter.fidelity.windows import make_golden
from converter.network.loading import load_checkpoint
from converter.network.neural_engine import Scales
from converter.options import BuildOptions
from converter.tokenizer import DnaTokenizer


def test_ordinary_activations_need_no_scale(tiny_checkpoint: Path) -> None:
    reference = load_checkpoint(find_checkpoint(str(tiny_checkpoint))).encoder()
    golden = make_golden(reference, DnaTokenizer(tiny_checkpoint / "tokenizer.json"))
    scales = measure_scales(reference, golden, BuildOptions())
    assert scales == Scales(residual_log2=0, value_log2=4)
