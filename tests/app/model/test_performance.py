"""What a process that predicts is told, by what it does then."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from app.model.performance import performance_environment

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
ROOT = Path(__file__).resolve().parents[3]


def told(code: str) -> int:
    """A number that a process prints which is told so."""
    environment = performance_environment({"PYTHONPATH": str(ROOT)})
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.parametrize("width", [2304, 3072, 4096])
def test_what_layers_compute_needs_no_new_pages_from_the_system(width: int) -> None:
    faults = told(f"""if True:
        import resource
        import numpy as np
        from app.model.performance import SpareMemory
        SpareMemory()
        def layers(count):
            for _ in range(count):
                rows, wide = np.ones((512, 768), np.float32), np.ones((512, {width}), np.float32)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        before = layers(2)
        print(layers(20) - before)
    """)
    assert faults < 20


def test_what_loading_left_free_goes_back_to_the_system() -> None:
    kept = told("""if True:
        from app.model.performance import SpareMemory
        def resident():
            return int(open("/proc/self/statm").read().split()[1])
        import numpy as np
        empty = resident()
        arrays = [np.ones(2**18, np.float32) for _ in range(100)]
        last, full = arrays.pop(), resident()
        arrays.clear()
        SpareMemory()
        print(100 * (resident() - empty) // (full - empty))
    """)
    assert kept < 20


def test_holes_that_loading_left_are_not_touched_in_turns() -> None:
    grown = told("""if True:
        import numpy as np
        from app.model.performance import SpareMemory
        def resident():
            return int(open("/proc/self/statm").read().split()[1]) // 256  # MiB
        sizes = range(300_000, 3_000_000, 50_000)
        weights = [(np.ones(size, np.float32), np.ones(600_000, np.float32)) for size in sizes]
        weights = [kept for _, kept in weights]
        SpareMemory()
        before = resident()
        for size in sizes:
            np.ones(size, np.float32)
        print(resident() - before)
    """)
    assert grown < 30


def test_of_what_is_free_a_little_is_kept() -> None:
    kept = told("""if True:
        import numpy as np
        from app.model.performance import SpareMemory
        def resident():
            return int(open("/proc/self/statm").read().split()[1]) // 256  # MiB
        spare, before = SpareMemory(), resident()
        def grown(mebibytes):
            arrays = [np.ones(2**18, np.float32) for _ in range(mebibytes)]
            between = np.ones(2**18, np.float32)  # the heap cannot shrink from its end
            arrays.clear()
            spare.limit()
            return resident() - before
        print(1000 * grown(40) + grown(400))
    """)
    assert 35 < kept // 1000 < 64
    assert kept % 1000 < 20


def test_answers_in_a_shared_file_are_not_what_is_free() -> None:
    kept = told("""if True:
        import mmap, tempfile
        import numpy as np
        from app.model.performance import SpareMemory
        def own():
            _, resident, shared, *_ = open("/proc/self/statm").read().split()
            return (int(resident) - int(shared)) // 256  # MiB
        spare, before = SpareMemory(), own()
        with tempfile.TemporaryFile() as file:
            file.truncate(200 * 2**20)
            answers = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)
            answers[:] = 1  # of a GPU that takes 65,536 tokens at a time
        arrays = [np.ones(2**18, np.float32) for _ in range(40)]
        between = np.ones(2**18, np.float32)  # the heap cannot shrink from its end
        arrays.clear()
        spare.limit()
        print(own() - before)
    """)
    assert kept > 35
