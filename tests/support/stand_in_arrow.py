"""A package of R that is called `arrow` where the real one cannot be had.

Its one function, `read_parquet`, gives the columns that pyarrow reads, as the real one documents
them: whole numbers and texts as vectors, lists of numbers as a list of vectors.
"""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.paths import ROOT

_HAS_ARROW = "quit(status = !requireNamespace('arrow', quietly = TRUE))"
_DESCRIPTION = """Package: arrow
Version: 0.0.1
Title: Stand-in of a Test
Description: Reads a Parquet file by pyarrow.
License: MIT
Author: nobody
Maintainer: nobody <nobody@example.org>
"""
_READS = f"""read_parquet <- function(file) {{
  command <- c("-m", "tests.support.stand_in_arrow", shQuote(normalizePath(file)))
  told <- tempfile()
  folder <- setwd("{ROOT}")
  on.exit(setwd(folder))
  # R's own libraries are not for Python.
  status <- system2("{sys.executable}", command, stdout = told, env = "LD_LIBRARY_PATH=")
  stopifnot(status == 0)
  source(told, local = TRUE)$value
}}
"""


def r_has_arrow() -> bool:
    """Whether R has the real package."""
    return not subprocess.run(["Rscript", "--vanilla", "-e", _HAS_ARROW], check=False).returncode


def install_stand_in(folder: Path) -> Path:
    """Install it into a library in a folder: a value for `R_LIBS`."""
    package, library = folder / "source" / "arrow", folder / "library"
    (package / "R").mkdir(parents=True)
    library.mkdir()
    (package / "DESCRIPTION").write_text(_DESCRIPTION)
    (package / "NAMESPACE").write_text("export(read_parquet)\n")
    (package / "R" / "read_parquet.R").write_text(_READS)
    install = ["R", "CMD", "INSTALL", "--no-docs", "--no-test-load", f"--library={library}"]
    subprocess.run([*install, str(package)], check=True, capture_output=True, timeout=60)
    return library


def _table(path: Path) -> str:
    """The R expression of a table."""
    table = pq.read_table(path)
    columns = [f"{json.dumps(name)} = {_column(table[name])}" for name in table.column_names]
    rows = f"row.names = seq_len({len(table)}), class = 'data.frame'"
    return f"structure(list({', '.join(columns)}), {rows})\n"


def _column(column: pa.ChunkedArray) -> str:
    values = column.to_pylist()
    if pa.types.is_fixed_size_list(column.type):
        return f"list({', '.join('NULL' if each is None else _vector(each) for each in values)})"
    missing = "NA_character_" if pa.types.is_string(column.type) else "NA_real_"
    return _vector(values, missing)


def _vector(values: list[float] | list[str | None], missing: str = "NA_real_") -> str:
    return f"c({', '.join(missing if each is None else json.dumps(each) for each in values)})"


if __name__ == "__main__":
    sys.stdout.write(_table(Path(sys.argv[1])))
