"""What would fill the disk is refused before it is begun."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.embed import estimate
from app.embed.errors import TryAgainError, UsageError
from app.embed.estimate import require_room
from app.embed.shards import ShardStamp

OPTIONS = {"dtype": "float16", "per_token": False}


def stamp(**options: object) -> ShardStamp:
    return ShardStamp("m", "f" * 16, 768, {**OPTIONS, **options}, "i", "w")


@pytest.mark.parametrize(
    ("free", "error"), [(10_000_000, None), (3_000_000, UsageError), (1_000_000, TryAgainError)]
)
def test_more_than_half_of_what_is_free_needs_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, error: type[Exception] | None
) -> None:
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=free))
    arguments = (tmp_path, stamp(), 1_000, 4_000_000)  # 1,536 bytes a vector
    if error is None:
        require_room(*arguments)
        return
    with pytest.raises(error, match=r"1\.60 MB"):
        require_room(*arguments)


def test_a_row_a_token_takes_what_its_tokens_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=10**9))
    require_room(tmp_path, stamp(), 1_000, 4_000_000)
    with pytest.raises(TryAgainError, match="GB"):
        require_room(tmp_path, stamp(per_token=True), 1_000, 4_000_000)


@pytest.mark.parametrize(
    ("free", "dtype", "helps"),
    [(2_000_000, "float32", True), (1_000_000, "float32", False), (1_000_000, "float16", False)],
)
def test_fewer_bytes_a_number_are_advised_where_that_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, dtype: str, helps: bool
) -> None:
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=free))
    with pytest.raises(TryAgainError, match="Make room") as caught:
        require_room(tmp_path, stamp(dtype=dtype), 1_000, 4_000_000)
    assert ("--dtype float16" in str(caught.value)) == helps
