import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from converter.digests import git_blob_sha1, sha256_bytes, sha256_file, sha256_json


@pytest.mark.parametrize(
    ("content", "expected"),
    # The examples of FIPS 180-2 and its appendix, and what spans several blocks.
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"a" * 10**6, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        (bytes(range(256)) * 10**4, None),
    ],
    ids=["nothing", "abc", "a million a", "more than a block"],
)
def test_a_digest_is_that_of_all_bytes(
    tmp_path: Path, content: bytes, expected: str | None
) -> None:
    (tmp_path / "f").write_bytes(content)
    assert sha256_file(tmp_path / "f") == sha256_bytes(content)
    assert sha256_bytes(content) == (expected or hashlib.sha256(content).hexdigest())


def test_a_blob_is_named_as_git_names_it(tmp_path: Path) -> None:
    content = b"ACGT\n" * 1000
    (tmp_path / "f").write_bytes(content)
    name = subprocess.run(
        ["git", "hash-object", tmp_path / "f"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert git_blob_sha1(content) == name


def test_equal_values_have_equal_digests_whatever_the_order_of_their_keys() -> None:
    value = {"b": [1, 2.5, None], "a": {"\u00b5": "x"}}
    again = json.loads('{"a": {"\\u00b5": "x"}, "b": [1, 2.5, null]}')
    assert sha256_json(value) == sha256_json(again)
    canonical = b'{"a":{"\\u00b5":"x"},"b":[1,2.5,null]}'
    assert sha256_json(value) == hashlib.sha256(canonical).hexdigest()
    assert sha256_json(value) != sha256_json({**value, "b": [2.5, 1, None]})
