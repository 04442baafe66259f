"""A model's process that says what it is told to, in the form of `app.model.wire`.

Its first argument is a JSON object with `first` and `then`, the replies (as they travel, in hex)
when it starts and to every request; or with `orphan`: it starts a process that holds its stderr
open, writes its id to that file, and dies.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from app.model.wire import REQUEST, read_windows
from converter.life_line import when_parent_ends


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("script", type=json.loads)
    parser.add_argument("--socket", type=int)
    arguments, _ = parser.parse_known_args()
    when_parent_ends(lambda: os._exit(0))
    script, channel = arguments.script, socket.socket(fileno=arguments.socket)
    if "orphan" in script:
        orphan = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
        )
        Path(script["orphan"]).write_text(str(orphan.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    channel.sendall(bytes.fromhex(script["first"]))
    stream = channel.makefile("rb")
    while header := stream.read(REQUEST.size):
        read_windows(stream, REQUEST.unpack(header)[2])
        channel.sendall(bytes.fromhex(script["then"]))


if __name__ == "__main__":
    main()
