"""Others that compute a network on a CPU in fp32, each as people run it: the references of figures.

Each takes windows of one length and gives last hidden states; weights are random, speed is all
that is asked of them. A peer that is not installed is not there.
"""

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# (B, n) int32 ids to (B, n, H).
Peer = Callable[[NDArray[np.int32]], Any]


def installed_peers(bert: torch.nn.Module, threads: int) -> Iterator[tuple[str, Peer]]:
    """By name: transformers with SDPA, which is always there; OpenVINO; ONNX Runtime.

    Args:
        bert: transformers' own model.
    """
    yield "transformers", _transformers(bert)
    if importlib.util.find_spec("openvino"):
        yield "openvino", _openvino(bert, threads)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
        yield "onnxruntime", _onnxruntime(bert, threads)


def _transformers(bert: torch.nn.Module) -> Peer:
    @torch.inference_mode()
    def predict(ids: NDArray[np.int32]) -> Any:
        tensor = torch.from_numpy(ids).long()
        return bert(tensor, attention_mask=torch.ones_like(tensor)).last_hidden_state

    return predict


class _IdsOnly(torch.nn.Module):
    """What is exported: ids and mask in, hidden states out."""

    def __init__(self, bert: torch.nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.bert(input_ids, attention_mask=attention_mask)[0]
        return states


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.ones(2, 16, dtype=torch.long)
    return ids, torch.ones_like(ids)


def _openvino(bert: torch.nn.Module, threads: int) -> Peer:
    import openvino

    with torch.inference_mode():
        model = openvino.convert_model(_IdsOnly(bert), example_input=_example())
    options = {
        # By itself it takes bf16 where the CPU has it.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.compile_model(model, "CPU", options)

    def predict(ids: NDArray[np.int32]) -> Any:
        wide = ids.astype(np.int64)
        return compiled([wide, np.ones_like(wide)])[0]

    return predict


def _onnxruntime(bert: torch.nn.Module, threads: int) -> Peer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    names = ["input_ids", "attention_mask"]
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with tempfile.TemporaryDirectory() as folder:
        file = os.fspath(Path(folder) / "bert.onnx")
        torch.onnx.export(
            _IdsOnly(bert),
            _example(),
            file,
            input_names=names,
            dynamic_shapes=(shape, shape),
            dynamo=True,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])

    def predict(ids: NDArray[np.int32]) -> Any:
        wide = ids.astype(np.int64)
        return session.run(None, dict(zip(names, (wide, np.ones_like(wide)), strict=True)))[0]

    return predict
