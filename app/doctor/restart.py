"""Step: the model's process is killed, and the service goes on."""

import io
import os
import signal
from collections.abc import Generator
from pathlib import Path

import numpy as np

from app.doctor.findings import Restart
from app.doctor.serving import Connection, serving, wait_until_ready
from app.doctor.visit import Visit
from converter.fidelity.gates import ON_DEVICE, compare
from converter.runtime.compiled_models import default_cache

# What the service says while Core ML is checked (see `converter.runtime.coreml`).
_CHECKING = "is checked"
_QUESTION = "ATGGGTAAAGGATCCTTAACCGGTTAC"


def examine_restart(visit: Visit) -> Generator[Restart, None, None]:
    """SIGKILL, as the system does it where memory is short."""
    with serving(visit, "restart") as server:
        found = Restart(**server.facts())
        yield found
        connection = Connection(server.port)
        before = connection.features(_QUESTION)
        visit.say("killing the model's process")
        compiled, messages = _compiled(visit), set[str]()
        os.kill(server.model_pid(), signal.SIGKILL)
        seconds = wait_until_ready(
            server.port, restarts=1, process=server.process, on_message=messages.add
        )
        found = found.model_copy(update={"again_seconds": round(seconds, 2)})
        if compiled:
            checked = any(_CHECKING in message for message in messages)
            found = found.model_copy(update={"kept": compiled == _compiled(visit) and not checked})
        yield found
        after = connection.features(_QUESTION)
        connection.close()
        found = found.model_copy(update={"log": server.warnings()})
        if (before.status, after.status) != (200, 200):
            problem = f"The same question was answered with {before.status}, then {after.status}."
            yield found.model_copy(update={"problems": (problem,)})
            return
        rows, again = (np.load(io.BytesIO(answer.body))[0] for answer in (before, after))
        problems = []
        if ON_DEVICE.judge(compare(rows, again)) == "refused":
            problems.append("The answer is another one than before.")
        if found.kept is False:
            problems.append("What was compiled and checked before was compiled or checked again.")
        same = bool(np.array_equal(rows, again))
        yield found.model_copy(update={"same_answer": same, "problems": tuple(problems)})


def _compiled(visit: Visit) -> dict[Path, int]:
    """The compiled models of the bundle that is served, and what differs for one made anew."""
    fingerprint = visit.bundle_to_serve()[1].manifest.fingerprint
    models = default_cache().glob(f"{fingerprint}-*/*.mlmodelc")
    return {model: model.stat().st_ino for model in models}
