"""Step: the model's process is killed, and the service goes on."""

import io
import os
import signal
from collections.abc import Generator

import numpy as np

from app.doctor.findings import Restart
from app.doctor.serving import Connection, serving, wait_until_ready
from app.doctor.visit import Visit
from converter.fidelity.gates import ON_DEVICE, compare

_QUESTION = "ATGGGTAAAGGATCCTTAACCGGTTAC"


def examine_restart(visit: Visit) -> Generator[Restart, None, None]:
    """SIGKILL, as the system does it where memory is short."""
    with serving(visit, "restart") as server:
        found = Restart(**server.facts())
        yield found
        connection = Connection(server.port)
        before = connection.features(_QUESTION)
        visit.say("killing the model's process")
        os.kill(server.model_pid(), signal.SIGKILL)
        seconds = wait_until_ready(server.port, restarts=1, process=server.process)
        found = found.model_copy(update={"again_seconds": round(seconds, 2)})
        yield found
        after = connection.features(_QUESTION)
        connection.close()
        if (before.status, after.status) != (200, 200):
            problem = f"The same question was answered with {before.status}, then {after.status}."
            yield found.model_copy(update={"problems": (problem,)})
            return
        rows, again = (np.load(io.BytesIO(answer.body))[0] for answer in (before, after))
        refused = ON_DEVICE.judge(compare(rows, again)) == "refused"
        yield found.model_copy(
            update={
                "same_answer": bool(np.array_equal(rows, again)),
                "problems": ("The answer is another one than before.",) if refused else (),
            }
        )
