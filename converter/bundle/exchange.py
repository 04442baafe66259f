"""Two folders that change places in one step, where the system can do that.

One function of the C library, by its documentation:

- Linux (man 2 rename; kernel 3.15, glibc 2.28): `int renameat2(int olddirfd, const char *oldpath,
  int newdirfd, const char *newpath, unsigned int flags)`, with RENAME_EXCHANGE of linux/fs.h.
- macOS (man 2 rename; 10.12, on APFS): `int renamex_np(const char *from, const char *to,
  unsigned int flags)`, with RENAME_SWAP of sys/stdio.h.
"""

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 1 << 1
_RENAME_SWAP = 0x00000002
# What a kernel or a file system says that does not have it.
_NOT_HERE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


def exchange(first: Path, second: Path) -> bool:
    """Let two paths of one file system change places; False where that cannot be done in one step.

    Raises:
        OSError: it can be done, but not with these.
    """
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, ctypes.c_uint(_RENAME_SWAP))
        else:
            here, flags = ctypes.c_int(_AT_FDCWD), ctypes.c_uint(_RENAME_EXCHANGE)
            failed = library.renameat2(here, names[0], here, names[1], flags)
    except AttributeError:  # an older C library
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _NOT_HERE:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))
