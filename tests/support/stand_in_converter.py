"""The converter's process without a converter: same command line, same lines of progress.

It tells where the tokenizer of a folder lies. The file `convert_orders` beside the output says what
it does then, one line a run: `fail`, `die`, `wait` (until it is ended, or its parent is gone) or
nothing; with `hold` before that, not until there is a file `go` beside the output.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tests.support.stand_in_bundle import make_bundle


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--revision")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    orders = arguments.output.parent / "convert_orders"
    order, _, rest = (orders.read_text() if orders.exists() else "").partition("\n")
    if orders.exists():
        orders.write_text(rest)
    say(stage="fetch", fraction=0.0, message="Fetching the checkpoint")
    print("chatter of a library", file=sys.stderr, flush=True)
    checkpoint = Path(arguments.model)
    if checkpoint.is_dir():
        files = {name: str(checkpoint / f"{name}.json") for name in ("config", "tokenizer")}
        say(described={"source": checkpoint.name, "commit": None, **files})
    debris = arguments.output.parent / "building"
    debris.mkdir(exist_ok=True)
    try:
        say(stage="convert", fraction=0.5, message="Converting")
        if order == "wait":
            sys.stdin.read()
            return 1
        while order.startswith("hold") and not (arguments.output.parent / "go").exists():
            time.sleep(0.01)
        order = order.removeprefix("hold").removeprefix(", ")
        if order == "die":
            return 3
        if order == "fail":
            told = {"code": "checkpoint.unavailable", "message": "No network.", "may_pass": True}
            say(error=told)
            return 1
        make_bundle(arguments.output)
    finally:
        debris.rmdir()
    say(bundle=str(arguments.output), fingerprint="0" * 16)
    return 0


if __name__ == "__main__":
    sys.exit(main())
