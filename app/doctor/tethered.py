"""A Python module that is run as a program, and ends when standard input closes.

    python -m app.doctor.tethered MODULE ARGUMENT ...

For what would outlive whoever started it and was killed: the server, pytest.
"""

import os
import runpy
import signal
import sys

from converter.life_line import when_parent_ends


def main() -> None:
    """Run it in this process; SIGTERM ends it, as if somebody had sent that."""
    when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
