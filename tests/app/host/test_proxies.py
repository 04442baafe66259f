"""docs/proxies.md, as a real nginx and a real Caddy take it."""

import io
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.live_service import Service
from tests.support.nginx import needs_nginx, proxied, to
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "proxies.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
# More than nginx takes by default, in few tokens.
LARGE = b"".join(b">r%d %s\n%s\n" % (n, b"x" * 30_000, b"ACGTTGCA") for n in range(50))
MANY_IDS = {"sequences": [{"id": f"{n:0150}", "sequence": "ACGT"} for n in range(80)]}


def block(heading: str, language: str, service: Service) -> str:
    (found,) = [
        code
        for kind, code in BLOCKS
        if kind == language and code in PAGE.partition(f"\n## {heading}\n")[2].split("\n## ")[0]
    ]
    return found.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")


@needs_nginx
@pytest.mark.parametrize(("heading", "prefix"), [("nginx", ""), ("Under a path", "/gena")])
def test_nginx_passes_on_what_its_defaults_refuse(
    service: Service, tmp_path: Path, heading: str, prefix: str
) -> None:
    with proxied(tmp_path, block(heading, "nginx", service)) as url:
        answer = httpx.post(f"{url}{prefix}/embeddings?format=npy", content=LARGE, timeout=60)
        assert np.load(io.BytesIO(answer.content)).shape == (50, 64)
        assert httpx.get(f"{url}{prefix}/v1/models").json()["data"][0]["id"] == "lab/model"


@needs_nginx
def test_nginx_lets_large_headers_through(service: Service, tmp_path: Path) -> None:
    with proxied(tmp_path, block("nginx", "nginx", service)) as url:
        answer = httpx.post(f"{url}/embeddings?format=npy&ids=header", json=MANY_IDS)
        assert len(answer.headers["x-gena-ids"]) > 12_000


@needs_nginx
def test_the_defaults_do_what_the_table_says(service: Service, tmp_path: Path) -> None:
    with proxied(tmp_path, to(service.url)) as url:
        assert httpx.post(f"{url}/embeddings", content=LARGE).status_code == 413
        large = httpx.post(f"{url}/embeddings?format=npy&ids=header", json=MANY_IDS)
        assert large.status_code == 502


@pytest.mark.skipif(not shutil.which("caddy"), reason="Caddy is not installed")
def test_caddy_reads_its_file(service: Service, tmp_path: Path) -> None:
    (tmp_path / "Caddyfile").write_text(block("Caddy", "caddy", service))
    command = ["caddy", "adapt", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile"]
    done = subprocess.run(command, capture_output=True, text=True, env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert f"127.0.0.1:{service.port}" in done.stdout
