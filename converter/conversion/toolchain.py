"""coremltools as it is used here: quiet, and without the work that nobody here needs.

Parts of it that are not documented are overridden for as long as a conversion takes; its version is
pinned. What is converted stays the same to the byte.
"""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from converter.importing import large_imports

log = logging.getLogger(__name__)

# coremltools imports what it could convert from besides torch, where that is installed.
_OTHER_FRAMEWORKS = ("sklearn", "tensorflow", "transformers", "xgboost")
# What trains compressed networks: a third of the import, and here none is trained.
_TRAINING = "coremltools.optimize.torch"


@contextlib.contextmanager
def coremltools_quietly() -> Iterator[ModuleType]:
    """coremltools, with what it and torch print kept from the user's terminal.

    It warns on import off macOS, and draws progress bars on standard error; both go to the log.
    """
    chatter = io.StringIO()
    logger = logging.getLogger("coremltools")
    propagates, logger.propagate = logger.propagate, False
    try:
        with (
            contextlib.redirect_stderr(chatter),
            contextlib.redirect_stdout(chatter),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            with large_imports(), _out_of_reach(_OTHER_FRAMEWORKS), _empty(_TRAINING):
                import coremltools

            yield coremltools
    finally:
        logger.propagate = propagates
        for line in filter(None, map(str.strip, chatter.getvalue().splitlines())):
            log.debug("coremltools: %s", line.rsplit("\r", 1)[-1])


@contextlib.contextmanager
def _out_of_reach(names: Iterable[str]) -> Iterator[None]:
    """No such modules for the import system for a while, but those that are there already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _empty(name: str) -> Iterator[None]:
    """A module without anything in it for a while, unless it is there already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def hurrying() -> Iterator[None]:
    """coremltools without half of its work, and without memory.

    - It validates the program after each of its passes; what comes in and what goes out is enough.
    - It spells the program out for its debug log, which nobody reads.
    - It looks for what depends on compressed weights after each pass; there are none yet.
    - It copies each weight three times to see that none is too large for fp16.
    - It numbers operations from where a compression, or a conversion that was broken off, has
      stopped in this process: here from the start, so that equal networks are equal bytes.
    """
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Block, Function, Program
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    Builder.name_count.clear()
    validate, overflows = Program.validate, FP16ComputePrecision.fp16_overflow

    def at_the_ends(program: Any, check_essential_scope: bool = False) -> None:
        if check_essential_scope:  # asked for by the front end and the back end only
            validate(program, check_essential_scope)

    def after_a_look(operation: Any) -> bool:
        return not _fits_fp16(operation) and overflows(operation)

    with (
        _replaced(Program, validate=at_the_ends, __str__=object.__repr__),
        _replaced(Function, __str__=object.__repr__),
        _replaced(Block, _propagate_nonreplaceable_vars=lambda _: None),
        _replaced(FP16ComputePrecision, fp16_overflow=staticmethod(after_a_look)),
    ):
        yield


@contextlib.contextmanager
def _replaced(owner: type, **members: Any) -> Iterator[None]:
    """A class with other members for a while."""
    originals = {name: vars(owner)[name] for name in members}
    try:
        for name, member in members.items():
            setattr(owner, name, member)
        yield
    finally:
        for name, original in originals.items():
            setattr(owner, name, original)


def _fits_fp16(operation: Any) -> bool:
    """Whether the constants that a MIL operation takes lie within fp16's range; NaN does not."""
    largest = np.finfo(np.float16).max
    values = [
        np.asarray(var.op.val.val)
        for var in operation.get_flattened_inputs()
        if var.op and var.op.op_type == "const" and var.is_tensor_or_scalar_of(dtype="fp32")
    ]
    return all(-largest <= value.min() and value.max() <= largest for value in values if value.size)
