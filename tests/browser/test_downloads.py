"""What is on the page, taken along: arrays, tables, pictures, commands."""

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from converter.tokenizer import clean
from tests.support.page import THREE, expect, features_of, fill, run, show
from tests.support.running import Server


def test_what_is_seen_can_be_downloaded(ready: Any, service: Server, tmp_path: Path) -> None:
    sequence = "acgttgcaaggcttaaccggtaN"
    show(ready, sequence)
    expected = features_of(service, sequence)

    def download(button: str) -> tuple[str, bytes]:
        with ready.expect_download() as started:
            ready.locator(button).click()
        return started.value.suggested_filename, Path(started.value.path()).read_bytes()

    name, content = download("#result-npy")
    assert name == "sequence.features.npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), expected)

    name, content = download("#result-tsv")
    head, *lines = (line.split("\t") for line in content.decode().splitlines())
    assert head[:6] == ["window", "row", "token", "id", "first_base", "end_base"]
    table = np.array([[float(cell) for cell in line[6:]] for line in lines], np.float32)
    np.testing.assert_array_equal(table, expected[0, : len(lines)])
    assert "".join(line[2] for line in lines[1:-1]) == clean(sequence).sequence

    for button in ("#mosaic-png", "#heat-png", "#cosine-png"):
        name, content = download(button)
        assert content.startswith(b"\x89PNG\r\n")
        assert name.endswith(".png")

    ready.locator("#result-code").click()
    panel = ready.locator("#result-code-panel")
    panel.get_by_role("button", name="Copy").first.click()
    expect(panel.get_by_role("status").first).to_have_text("Copied.")
    command = ready.evaluate("() => navigator.clipboard.readText()")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), expected)


def test_no_table_has_a_name_that_a_spreadsheet_computes(ready: Any) -> None:
    fill(ready, THREE.replace(">two", ">=1+1"))
    run(ready)
    ready.locator("#map-result:not([hidden])").wait_for()
    expect(ready.locator("#map-tsv")).to_be_disabled()
    expect(ready.locator("#map-facts")).to_contain_text("a spreadsheet would compute the name =1+1")
    fill(ready, THREE)
    run(ready)
    expect(ready.locator("#map-tsv")).to_be_enabled()


def test_the_command_for_many_records_gives_the_vectors_of_the_map(
    ready: Any, tmp_path: Path
) -> None:
    fill(ready, THREE)
    ready.locator("#pooling").select_option("max")
    run(ready)
    ready.locator("#map-result:not([hidden])").wait_for()
    with ready.expect_download() as started:
        ready.locator("#map-npy").click()
    seen = np.load(started.value.path())
    with ready.expect_download() as started:
        ready.locator("#map-tsv").click()
    lines = Path(started.value.path()).read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["id", "one", "two", "three"]
    ready.locator("#map-code").click()
    command = ready.locator("#map-code-panel code").first.inner_text()
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), seen)
    assert seen.shape == (3, 768)


def test_the_code_beside_the_files_reads_them(ready: Any, tmp_path: Path) -> None:
    fill(ready, THREE.replace(">one", ">NA").replace(">two", ">b#2"))
    run(ready)
    ready.locator("#map-result:not([hidden])").wait_for()
    for button in ("#map-npy", "#map-tsv"):
        with ready.expect_download() as started:
            ready.locator(button).click()
        started.value.save_as(tmp_path / started.value.suggested_filename)
    ready.locator("#map-code").click()
    _, in_r, in_python = ready.locator("#map-code-panel code").all_inner_texts()

    def output(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, check=True, timeout=60, stdout=subprocess.PIPE)
        return done.stdout.decode()

    assert output(sys.executable, "-c", f"{in_python}\nprint(vectors.shape)") == "(3, 768)\n"
    if shutil.which("Rscript"):
        told = output("Rscript", "-e", f"{in_r}\ncat(rownames(vectors), ncol(vectors))")
        assert told.endswith("NA b#2 three 768")
