"""How many files and connections this process may have open. The standard library only."""

import resource

# What macOS lets everybody have (OPEN_MAX), where its shells begin with 256.
_ENOUGH = 10_240
# For the log, the children and their pipes, and connections that only hear that there is no place.
_KEPT_BACK = 64
# A connection, and what a request has on disk when it is big: its body and its tokens.
_OF_A_CONNECTION = 3
_FEWEST_CONNECTIONS = 8


def raise_limit() -> int:
    """Raise the soft limit of open files as far as is of use; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _ENOUGH:
        return _ENOUGH
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    while wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            # The kernel of a Mac may allow less than the hard limit says (kern.maxfilesperproc).
            wanted //= 2
        else:
            return wanted
    return soft


def most_connections(limit: int) -> int:
    """How many connections leave room for everything else, with `limit` open files."""
    return max(_FEWEST_CONNECTIONS, (limit - _KEPT_BACK) // _OF_A_CONNECTION)
