"""Memory that the server shares with the model's process: a file without a name, mapped by both."""

import tempfile
from io import FileIO


def shared_file(size: int) -> FileIO:
    """A temporary file of so many zeros. Close it.

    They are written, so that the disk has room for them. Of a sparse file that is known only when
    its mapped memory is used: on a full disk SIGBUS kills whoever does.

    Raises:
        OSError: the temporary folder is full, or there is none.
    """
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    zeros = memoryview(bytes(size))
    try:
        while zeros:
            zeros = zeros[file.write(zeros) :]
    except BaseException:
        file.close()
        raise
    return file
