"""Serve gena-mini and print requests that work: `make demo`. Ctrl-C ends it.

GENA_PORT and the other settings of `gena serve` apply.
"""

import json
import os
import signal
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
            print(requests(url), flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return server.wait()
    finally:
        server.terminate()
        server.wait()


def wait_for_model(url: str, server: subprocess.Popen[bytes]) -> str:
    """Ask until the model is "ready" or has "failed"; "ended" if the server did before."""
    while server.poll() is None:
        status = health(url).get("status", "")
        if status in ("ready", "failed"):
            return status
        time.sleep(0.3)
    return "ended"


def health(url: str) -> dict[str, str]:
    """What `/health` says; nothing while the socket is closed."""
    try:
        with _direct.open(f"{url}/health", timeout=5) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:  # 503 until it is ready, with the status inside
        return dict(json.load(error))
    except OSError:
        return {}


def requests(url: str) -> str:
    """The lines for the terminal."""
    sequence = json.dumps({"sequence": SEQUENCE, "pooling": "mean"})
    return (
        f"\n{MODEL} is served at {url} (a page for people; {url}/docs for programs).\n"
        "In another terminal, one vector for a sequence:\n\n"
        f"  curl -s {url}/features -H 'Content-Type: application/json' -d '{sequence}'\n\n"
        "and the features of every token, 1 x 512 x 768, for numpy.load:\n\n"
        f"  curl -s '{url}/features?format=npy' -H 'Content-Type: text/plain' "
        f"-d {SEQUENCE} -o features.npy\n\n"
        "Ctrl-C ends it.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
