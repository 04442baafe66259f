"""Fetches the few files of a checkpoint from the hub, and makes sure that they arrived whole.

`huggingface_hub` does the work: its cache, its progress bar, its retries, and what it reads from
the environment (HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME, HF_TOKEN) apply. No torch in here.
"""

import os
import re
from pathlib import Path

from converter.digests import git_blob_sha1, sha256_file
from converter.errors import (
    CheckpointError,
    CheckpointUnavailableError,
    HubUnreachableError,
    brief,
    brief_repr,
    is_full_disk,
)

_INSTEAD = "Instead, a folder that holds the checkpoint works, and so does --model gena-mini."
# How long hf_xet, which fetches large files, tries to get through to where they lie. By itself it
# went on for 38 s where connections were refused, and for more than 120 where nobody answered;
# with these for 3 to 11 and 70, and for 40 where they were dropped.
_PATIENCE = {
    "HF_XET_CLIENT_CONNECT_TIMEOUT": "10s",
    "HF_XET_CLIENT_READ_TIMEOUT": "20s",
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_USER_OF_ADDRESS = re.compile(r"//[^/@\s]*@")


def fetch_files(repo_id: str, revision: str | None, names: tuple[str, ...]) -> Path:
    """Bring files of a checkpoint into the hub's cache, unless they are there.

    Args:
        revision: branch, tag or commit; the main branch when None.

    Returns:
        The folder that holds them, all of one commit; its name is the commit.

    Raises:
        CheckpointUnavailableError: they are not here and cannot be had now.
        CheckpointError: a file is not what the hub announced; it was deleted.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    first = Path(_download(repo_id, names[0], revision))
    snapshot = first.parent
    files = [first, *(Path(_download(repo_id, name, snapshot.name)) for name in names[1:])]
    for file in files:
        _verify(file, repo_id)
    return snapshot


def fetch_first(repo_id: str, commit: str, names: tuple[str, ...]) -> Path:
    """Bring the first of these files that exists beside those of `fetch_files`.

    Args:
        commit: the name of their folder.

    Raises:
        CheckpointUnavailableError, CheckpointError: as `fetch_files`; there is none of them.
    """
    file = _first(repo_id, commit, names)
    _verify(file, repo_id)
    return file


def _first(repo_id: str, commit: str, names: tuple[str, ...]) -> Path:
    from huggingface_hub import try_to_load_from_cache

    # What is here already needs no question to the hub, which may be out of reach.
    for name in names:
        cached = try_to_load_from_cache(repo_id, name, revision=commit)
        if isinstance(cached, str):
            return Path(cached)
    for name in names:
        try:
            return Path(_download(repo_id, name, commit))
        except _AbsentError:
            continue
    raise CheckpointError(f"{repo_id} at {commit[:12]} holds neither {' nor '.join(names)}.")


class _AbsentError(CheckpointError):
    """The hub has the revision, and no such file in it."""


def _download(repo_id: str, name: str, revision: str | None) -> str:
    from huggingface_hub import constants, errors, hf_hub_download

    at, hub = repo_id + (f" (revision {revision})" if revision else ""), _told(constants.ENDPOINT)
    try:
        return hf_hub_download(repo_id, name, revision=revision)
    except errors.GatedRepoError as error:
        raise CheckpointUnavailableError(
            f"{at} asks for permission. Request it on the model's page, then log in with "
            f"`hf auth login` or set HF_TOKEN. {_INSTEAD}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointUnavailableError(
            f"{at} was not found on {hub}. Check the spelling; a private model "
            f"needs `hf auth login` or HF_TOKEN. {_INSTEAD}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointUnavailableError(
            f"{repo_id} has no revision {revision!r}. Name a branch, a tag or a full commit."
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise _AbsentError(f"{at} holds no {name}: it is no GENA-LM checkpoint.") from error
    except errors.LocalEntryNotFoundError as error:
        failure: type[CheckpointUnavailableError] = HubUnreachableError
        if constants.is_offline_mode():
            failure, reason = CheckpointUnavailableError, "HF_HUB_OFFLINE is set"
        elif isinstance(error.__cause__, errors.FileMetadataError):
            reason = (
                f"{hub} was reached, but what answered is not the hub: a web page "
                "perhaps, to log in to this network or to a proxy"
            )
        else:
            reason = f"{hub} cannot be reached"
        raise failure(f"{name} of {at} is not on this machine, and {reason}. {_INSTEAD}") from error
    except errors.HFValidationError as error:
        raise CheckpointUnavailableError(
            f"{brief_repr(repo_id)} is no hub id (owner/name)."
        ) from error
    except RuntimeError as error:  # hf_xet's
        raise CheckpointUnavailableError(
            f"Fetching {name} of {at} failed ({_told(brief(error))}). Try again. The hub keeps "
            "large files elsewhere, which this network may block: then HF_HUB_DISABLE_XET=1 helps, "
            f"or HF_ENDPOINT with the address of a mirror. {_INSTEAD}"
        ) from error
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        raise _interrupted(at, name, error) from error


def _told(text: str) -> str:
    """Without what an address in it may say of a user and a password."""
    return _USER_OF_ADDRESS.sub("//", text)


def _interrupted(at: str, name: str, error: Exception) -> CheckpointUnavailableError:
    if isinstance(error, OSError) and is_full_disk(error):
        return CheckpointUnavailableError(
            f"There is no room for {name} of {at} ({error.strerror}). Make room, or set HF_HOME "
            "to a folder on another disk."
        )
    return HubUnreachableError(
        f"Fetching {name} of {at} failed ({_told(brief(error))}). Try again. {_INSTEAD}"
    )


def _verify(file: Path, repo_id: str) -> None:
    """Compare a file with the digest that the hub announced: the name of its blob.

    That is the SHA-256 of a large file, and git's SHA-1 of a small one. Where the cache cannot
    link (some network drives), there is no blob and nothing to compare with.
    """
    blob = file.resolve()
    if _SHA256.fullmatch(blob.name):
        intact = sha256_file(blob) == blob.name
    elif _SHA1.fullmatch(blob.name):
        intact = git_blob_sha1(blob.read_bytes()) == blob.name
    else:
        return
    if not intact:
        file.unlink()
        blob.unlink()
        raise CheckpointError(
            f"{file.name} of {repo_id} is not what the hub announced (its digest differs), so it "
            "was deleted. Try again; if it happens again, a proxy or the disk alters files."
        )
