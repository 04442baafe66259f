import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from converter.errors import TokenizerError
from converter.tokenizer import CleanSequence, DnaTokenizer, SequenceError, clean
from tests.support.paths import ROOT, SHARED
from tools.seeded_checkpoints import make_tokenizer

PUBLISHED = SHARED / "data"
BASE = PUBLISHED / "gena-lm-bert-base" / "tokenizer.json"
T2T = PUBLISHED / "gena-lm-bert-base-t2t" / "tokenizer.json"


def published(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"the published tokenizer is not at {path}")
    return path


def seeded(folder: Path) -> Path:
    make_tokenizer().save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def random_dna(length: int, letters: str = "ACGT", seed: int = 0) -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


def cpu_seconds(work: Callable[[str], object], text: str) -> float:
    """The better of two, of this process: others may use the machine."""
    trials = []
    for _ in range(2):
        start = time.process_time()
        work(text)
        trials.append(time.process_time() - start)
    return min(trials)


def test_white_space_case_and_uracil_are_folded_and_counted() -> None:
    cleaned = clean(" acgu\r\nTTNn\tRYSWKMBDHV\u00a0\u200b\ufeff\u3000\n")
    assert cleaned == CleanSequence(
        sequence="ACGTTTNNRYSWKMBDHV",
        submitted=cleaned.submitted,
        n_white_space=9,
        n_lower_case=5,
        n_uracil=1,
        n_ambiguous=12,
    )


def test_clean_letters_know_where_they_were() -> None:
    text = "\ufeffAC\n gu\u3000N"
    cleaned = clean(text)
    assert [text[i].upper().replace("U", "T") for i in cleaned.positions] == list(cleaned.sequence)


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_nothing_is_a_clean_empty_sequence(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.sequence == ""
    assert len(cleaned.positions) == 0


@pytest.mark.parametrize(
    ("text", "letter", "position"),
    [
        ("ACXGT", "X", 3),
        ("AC\nG-T", "-", 5),
        ("*", "*", 1),
        ("ACGT\n>two", ">", 6),
        ("[MASK]", "[", 1),
        ("\u3000AC\u00e9GT", "\u00e9", 4),  # counted in characters, white space included
        ("A\u017f", "\u017f", 2),  # long s: upper() makes it S, a IUPAC letter
        ("A\ud800", "\ud800", 2),
        ("A\0", "\0", 2),
        ("A7", "7", 2),
    ],
)
def test_other_letters_are_errors_with_their_position(
    text: str, letter: str, position: int
) -> None:
    with pytest.raises(SequenceError) as caught:
        clean(text)
    assert (caught.value.letter, caught.value.position) == (letter, position)
    message = str(caught.value)
    assert message.startswith(f"{letter!a} at position {position} ")
    assert message.isascii()
    assert message.isprintable()


def test_every_single_character_is_kept_removed_or_refused() -> None:
    for code in range(0x3100):
        character = chr(code)
        try:
            sequence = clean(character).sequence
        except SequenceError:
            assert character not in "ACGTURYSWKMBDHVNacgturyswkmbdhvn"
            assert not character.isspace()
            continue
        if sequence:
            assert character.upper().replace("U", "T") == sequence
            assert character.isascii()
        else:
            assert character.isspace() or character in "\u200b\ufeff"


def test_a_megabase_is_cleaned_at_once() -> None:
    text = random_dna(1_000_000, "ACGTacgtuN\n")
    # 6 ms where this was written; far less than a Python loop over the bases would take.
    assert cpu_seconds(clean, text) < 0.1


def sequences() -> list[str]:
    return [
        "A",
        "N",
        random_dna(921, seed=1),
        random_dna(5000, seed=2),
        random_dna(3000, "ACGTACGTACGTN", seed=3),
        random_dna(2000, "ACGTRYSWKMBDHVN", seed=4),
        "ACGT" + "N" * 9 + "ACGT" + "N" * 10 + "GATTACA" + "N" * 1000,
        "N" * 300 + random_dna(50) + "N" * 12,
        "A" * 3000,
        "CACACACA" * 300,
        "",
    ]


@pytest.mark.parametrize("file", [BASE, T2T], ids=["bert-base", "t2t"])
def test_ids_equal_those_of_the_tokenizers_library(file: Path) -> None:
    library = Tokenizer.from_file(str(published(file)))
    ours = DnaTokenizer(file)
    assert ours.vocab_size == 32000
    for sequence in sequences():
        encoding = ours.encode(sequence)
        truth = library.encode(sequence)
        assert ours.window(encoding.ids[:510]).tolist()[:511] == truth.ids[:511]
        assert encoding.ids.dtype == np.int32
        assert encoding.ids.tolist() == truth.ids[1:-1]
        assert ours.tokens(encoding.ids) == truth.tokens[1:-1]
        assert encoding.n_unknown == truth.ids.count(0)


@pytest.mark.parametrize("file", [BASE, T2T], ids=["bert-base", "t2t"])
def test_offsets_tile_the_sequence_and_spell_the_tokens(file: Path) -> None:
    tokenizer = DnaTokenizer(published(file))
    for sequence in sequences():
        encoding = tokenizer.encode(sequence)
        assert encoding.offsets.shape == (len(encoding.ids), 2)
        assert encoding.offsets.dtype == np.int64
        end = 0
        for token, (first, last) in zip(
            tokenizer.tokens(encoding.ids), encoding.offsets.tolist(), strict=True
        ):
            assert first == end
            end = last
            spelled = sequence[first:last]
            if token == "-":
                assert len(spelled) >= 10
                assert set(spelled) == {"N"}
            elif token == "[UNK]":
                assert len(spelled) == 1
            else:
                assert spelled == token
        assert end == len(sequence)


def test_a_run_of_n_is_one_token_of_the_t2t_vocabulary_and_unknown_letters_of_the_base() -> None:
    run = "ACGT" + "N" * 25 + "ACGT"
    t2t = DnaTokenizer(published(T2T)).encode(run)
    assert t2t.n_unknown == 0
    assert [4, 29] in t2t.offsets.tolist()
    base = DnaTokenizer(published(BASE)).encode(run)
    assert base.n_unknown == 25


def test_tokenizing_is_linear_in_the_length() -> None:
    tokenizer = DnaTokenizer(published(BASE))

    # Tokens of both lie in a core's cache: a megabase's do not, and take three times as long each.
    short, long = (cpu_seconds(tokenizer.encode, random_dna(n)) for n in (25_000, 200_000))
    # Eight times the bases; 64 times the time would be quadratic.
    assert long < 24 * short


@pytest.fixture
def small(tmp_path: Path) -> DnaTokenizer:
    path = tmp_path / "tokenizer.json"
    make_tokenizer().save(str(path))
    return DnaTokenizer(path)


def test_windows_are_wrapped_and_padded(small: DnaTokenizer) -> None:
    ids = small.encode("ACGTACGT").ids
    window = small.window(ids)
    assert window.tolist() == [1, *ids.tolist(), 2]
    padded = small.pad(window, 512)
    assert padded.shape == (512,)
    assert padded.dtype == np.int32
    assert padded[: len(window)].tolist() == window.tolist()
    assert set(padded[len(window) :].tolist()) == {3}
    with pytest.raises(ValueError, match="510"):
        small.window(np.full(511, 6, np.int32))
    with pytest.raises(ValueError, match="do not fit"):
        small.pad(window, 3)
    with pytest.raises(ValueError, match="999999"):
        small.tokens(np.array([6, 999999], np.int32))


def test_padding_and_truncation_stored_in_the_file_have_no_effect(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.enable_padding(length=64, pad_id=3, pad_token="[PAD]")
    tokenizer.enable_truncation(16)
    tokenizer.save(str(tmp_path / "t.json"))
    encoding = DnaTokenizer(tmp_path / "t.json").encode(random_dna(4000))
    assert encoding.offsets[-1, 1] == 4000
    assert 3 not in encoding.ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["model"].update(dropout=0.1), "dropout"),
        (lambda raw: raw["model"].update(unk_token=None), "unk_token None"),
        (lambda raw: raw.update(post_processor=None), r"\[CLS\]"),
        (lambda raw: raw.update(model={"type": "WordLevel", "vocab": {}, "unk_token": "x"}), "BPE"),
    ],
)
def test_a_tokenizer_that_is_not_genas_is_refused(tmp_path: Path, change, message: str) -> None:
    raw = json.loads(make_tokenizer().to_str())
    change(raw)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(TokenizerError, match=message):
        DnaTokenizer(path)


def test_special_ids_other_than_genas_are_refused(tmp_path: Path) -> None:
    text = make_tokenizer().to_str().replace("[PAD]", "[UNUSED]").replace("[MASK]", "[PAD]")
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(TokenizerError, match=r"\[PAD\] the id 4"):
        DnaTokenizer(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "no JSON object"),
        (b"{}", "no GENA-LM tokenizer file: it has no 'model'"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json .*{message}"):
        DnaTokenizer(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"absent\.json"):
        DnaTokenizer(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("name", "count"), [("gena-lm-bert-base", 159), ("gena-lm-bert-base-t2t", 157)]
)
def test_the_example_of_the_readme_has_the_known_number_of_ids(name: str, count: int) -> None:
    file = PUBLISHED / name / "tokenizer.json"
    if not file.is_file():
        pytest.skip("the published tokenizers are not beside this clone")
    example = ROOT / "docs" / "aph.fa"
    _, *lines = example.read_text().splitlines()
    sequence = clean("\n".join(lines)).sequence
    tokenizer = DnaTokenizer(file)
    assert len(sequence) == 921
    assert len(tokenizer.window(tokenizer.encode(sequence).ids)) == count


@pytest.mark.parametrize("file", [BASE, T2T, None], ids=["base", "t2t", "seeded"])
@pytest.mark.parametrize("letters", ["N", "ACGTN", "ACGTRYSWKMBDHVN", "ACGT" * 9 + "N", "AN"])
def test_a_sequence_in_pieces_has_the_tokens_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path | None, letters: str
) -> None:
    path = published(file) if file else seeded(tmp_path)
    ours, library = DnaTokenizer(path), Tokenizer.from_file(str(path))
    for seed in range(20):
        monkeypatch.setattr("converter.tokenizer._PIECE", seed + 1)
        sequence = random_dna(2_000, letters, seed)
        encoding = ours.encode(sequence)
        expected = library.encode(sequence, add_special_tokens=False)
        assert encoding.ids.tolist() == expected.ids
        assert encoding.offsets[:, 1].tolist() == [end for _, end in expected.offsets]
        assert file is T2T or len(list(ours._pieces(sequence))) > 9


MILLIONS = """
import sys
from pathlib import Path
from converter.measuring import peak_memory_mib
from converter.tokenizer import DnaTokenizer
tokenizer = DnaTokenizer(Path(sys.argv[1]))
tokenizer.encode("ACGT")
before = peak_memory_mib()
assert len(tokenizer.encode("N" * 3_000_000).ids) == 3_000_000
print(peak_memory_mib() - before)
"""


def test_millions_of_n_take_little_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MILLIONS, str(seeded(tmp_path))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 300
