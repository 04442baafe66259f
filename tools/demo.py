"""Serve gena-mini and print requests that work: `make demo`. Ctrl-C ends it.

GENA_PORT and the other settings of `gena serve` apply.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from app.settings import Settings

MODEL = "gena-mini"
# A proxy of the system or the shell is not for this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# The first 60 bases of the phage lambda genome.
SEQUENCE = "GGGCGGCGACCTCGCGGGTTTTCGCTATTTATGAAAATTTTCCGGTTTAAGGCGTTTCCG"


def main() -> int:
    """Run the server until it ends; its exit code."""
    port = os.environ.get("GENA_PORT") or str(Settings.model_fields["port"].default)
    url = f"http://127.0.0.1:{port}"
    occupant = who_answers(int(port))
    if occupant is not None:
        print(
            f"{occupant} To take another port: GENA_PORT={int(port) % 65535 + 1} make demo",
            file=sys.stderr,
        )
        return 1
    # As Ctrl-C, which a terminal sends to the server as well: it must not outlive this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--model", MODEL, "--port", port]
    )
    try:
        status = wait_for_model(url, server)
        if status == "failed":  # the server's log has said why
            return 1
        if status == "ready":
            print(requests(url, shape(url)), flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return server.wait()
    finally:
        server.terminate()
        server.wait()


def who_answers(port: int) -> str | None:
    """A sentence on what listens on a port of this machine already; None where nothing does."""
    with socket.socket() as asking:
        asking.settimeout(1)
        if port == 0 or asking.connect_ex(("127.0.0.1", port)) != 0:
            return None
    model = health(f"http://127.0.0.1:{port}").get("model")
    if model is not None:
        return f"Port {port} has a gena already, which serves {model}."
    return f"Port {port} is taken by another program (lsof -i :{port} names it)."


def wait_for_model(url: str, server: subprocess.Popen[bytes]) -> str:
    """Ask until the model is "ready" or has "failed"; "ended" if the server did before."""
    while server.poll() is None:
        status = health(url).get("status", "")
        if status in ("ready", "failed"):
            return status
        time.sleep(0.3)
    return "ended"


def health(url: str) -> dict[str, str]:
    """What `/health` says; nothing while the socket is closed, or where another server answers."""
    try:
        try:
            answer = _direct.open(f"{url}/health", timeout=5)
        except urllib.error.HTTPError as error:  # 503 until it is ready, with the status inside
            answer = error
        with answer:
            said = json.load(answer)
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return said if isinstance(said, dict) else {}


def shape(url: str) -> str:
    """Of the features of a sequence that fits in one window, as its server says it."""
    with _direct.open(f"{url}/info", timeout=5) as answer:
        said = json.load(answer)
    return f"1 x {said['limits']['tokens_per_window']} x {said['bundle']['hidden_size']}"


def requests(url: str, features: str) -> str:
    """The lines for the terminal.

    Args:
        features: the shape of an answer.
    """
    sequence = json.dumps({"sequence": SEQUENCE, "pooling": "mean"})
    return (
        f"\n{MODEL} is served at {url} (a page for people; {url}/docs for programs).\n"
        "In another terminal, one vector for a sequence:\n\n"
        f"  curl -s {url}/features -H 'Content-Type: application/json' -d '{sequence}'\n\n"
        f"and the features of every token, {features}, for numpy.load:\n\n"
        f"  curl -s '{url}/features?format=npy' -H 'Content-Type: text/plain' "
        f"-d {SEQUENCE} -o features.npy\n\n"
        "Ctrl-C ends it.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
