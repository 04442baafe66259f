"""The cache of windows: its bound, its keys, what it keeps alive."""

import numpy as np
import pytest

from app.inference.cache import WindowCache
from converter.pooling import WindowPooling


def rows(value: float, n: int = 10) -> np.ndarray:
    return np.full((n, 8), value, np.float32)


def key(number: int) -> bytes:
    return WindowCache.key("fingerprint", np.array([1, number, 2], np.int32))


def test_keeps_rows_until_their_bytes_are_needed_and_drops_the_least_used():
    size = rows(0).nbytes + 300
    cache = WindowCache(3 * size)
    for number in range(3):
        cache.put(key(number), rows(number))
    assert cache.get(key(0)) is not None

    cache.put(key(3), rows(3))

    assert cache.get(key(1)) is None
    assert [float(cache.get(key(n))[0, 0]) for n in (0, 2, 3)] == [0, 2, 3]
    assert cache.bytes <= 3 * size


def test_keeps_nothing_when_switched_off_or_for_what_is_too_big():
    off, small = WindowCache(0), WindowCache(1000)
    off.put(key(0), rows(0))
    small.put(key(0), rows(0, n=1000))

    assert off.get(key(0)) is None
    assert small.get(key(0)) is None
    assert (off.bytes, small.bytes) == (0, 0)


def test_a_view_does_not_keep_its_base_alive():
    base = rows(1, n=512)
    cache = WindowCache(10_000)

    cache.put(key(0), base[:4])

    assert cache.get(key(0)).base is None


def test_what_was_kept_cannot_be_changed():
    cache = WindowCache(10_000)
    cache.put(key(0), rows(1))

    with pytest.raises(ValueError, match="read-only"):
        cache.get(key(0))[0, 0] = 2


def test_keys_depend_on_fingerprint_ids_and_pooling():
    ids = np.array([1, 5, 2], np.int32)
    keys = {
        WindowCache.key("a", ids),
        WindowCache.key("b", ids),
        WindowCache.key("a", ids[:2]),
        WindowCache.key("a", np.array([1, 2, 5], np.int32)),
        WindowCache.key("a", ids, WindowPooling("mean", 0, 1)),
        WindowCache.key("a", ids, WindowPooling("max", 0, 1)),
        WindowCache.key("a", ids, WindowPooling("mean", 1, 2)),
        WindowCache.key("a", ids, WindowPooling("mean", 0, 2)),
    }

    assert len(keys) == 8
    assert WindowCache.key("a", ids.copy()) in keys
