"""What people can do about a failure, and whether it lasts, by its code."""

from converter.checkpoint.files import SHIPPED_MODELS

# By the beginning of the code; the longest that fits.
_ADVICE = {
    "": "See the log, and start again when the cause is gone.",
    "checkpoint.unavailable": "Check the name and the network (HF_ENDPOINT, HF_HUB_OFFLINE), or "
    f"serve a model that is here: --model FOLDER, or --model {', '.join(SHIPPED_MODELS)}, which "
    "ships with the project.",
    "checkpoint": "Fetch the checkpoint again, or name another one with --model.",
    "package.refused": "Try gena convert --precision fp32, or report the figures in the message.",
    "path": "Correct the name of the folder or file, and start again.",
    "bundle": "Remove the bundle folder, or build it again with gena convert.",
    "bundle.missing": "Check the name that --bundle gives; without it the model is converted.",
    "bundle.replaced": "Wait until what builds the bundle is done.",
    "runtime": "Choose another with --runtime or --compute-units.",
    "disk": "Make room there, or start again with another place: GENA_BUNDLES for bundles, "
    "TMPDIR for what is temporary.",
    "queue": "Start it again with a larger GENA_QUEUE_TOKENS.",
    "model.start": "See whether the machine lacks memory or open files (ulimit -n).",
    "model": "Try GENA_COMPUTE_UNITS=CPU_ONLY, and see the log.",
}
# What was named, or lies in the files that were named. Beside it are faults of the machine and the
# model's processes, which another attempt may not meet.
_LASTING = (
    "bundle.invalid", "bundle.missing", "checkpoint", "package", "path", "queue", "runtime",
    "tokenizer",
)  # fmt: skip


def lasts(code: str) -> bool:
    """Whether a failure stays until somebody changes the command, or what it names."""
    return code.startswith(_LASTING)


def advice_for(code: str) -> str:
    """A sentence for a dotted code."""
    return _ADVICE[max((prefix for prefix in _ADVICE if code.startswith(prefix)), key=len)]
