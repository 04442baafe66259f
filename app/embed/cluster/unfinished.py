"""What Ray Data reads: the rows of the windows table whose shards are missing, a block a shard."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from app.embed.windows_table import TABLE, WindowsTable

# A row in memory, roughly.
_BYTES = 100


class UnfinishedWindows(Datasource):  # type: ignore[misc]  # Ray has no types
    """A row group a shard of `windows.parquet`; each is read as a block of its own.

    (`ray.data.read_parquet` makes blocks of as many rows as it likes, so that shards would have to
    be cut out again by tasks that ask for CPUs, all of which the actors may have.)
    """

    def __init__(self, folder: Path, shards: Sequence[int]) -> None:
        super().__init__()
        self._table = WindowsTable(folder)
        self._shards = shards

    @property
    def supports_distributed_reads(self) -> bool:
        """Read where the command runs: what another node holds would be lost with it."""
        return False

    def estimate_inmemory_data_size(self) -> int:
        return sum(map(self._bytes, self._shards))

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002
        per_task_row_limit: int | None = None,
        data_context: Any = None,  # noqa: ARG002
    ) -> list[ReadTask]:
        """A task a shard, however many are asked for."""
        folder = self._table.folder
        return [
            ReadTask(
                partial(_read, folder, shard),
                BlockMetadata(
                    num_rows=len(self._table.ids(shard)),
                    size_bytes=self._bytes(shard),
                    input_files=(str(folder / TABLE),),
                    exec_stats=None,
                ),
                per_task_row_limit=per_task_row_limit,
            )
            for shard in self._shards
        ]

    def _bytes(self, shard: int) -> int:
        return _BYTES * len(self._table.ids(shard))


def _read(folder: Path, shard: int) -> list[pa.Table]:
    return [_table(folder).shard(shard).table]


@lru_cache(maxsize=1)
def _table(folder: Path) -> WindowsTable:
    """Opened once: that compares all of it with its digest."""
    return WindowsTable(folder)
