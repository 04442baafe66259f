"""What goes in, by way of /tokenize, which needs no model."""

import gzip
import io
import json
import zlib
from functools import partial

import httpx
import pytest

from tests.support.live_service import Service, running

FASTA = b">gene1 first\nACGT\nACG\n>gene2\nTTGACA\n"
FASTQ = b"@r1 x\nACGT\n+\nIIII\n@r2\nTTG\n+\nIII\n"


def tokenize(service: Service, content: bytes = b"", **arguments) -> httpx.Response:
    return service.post("/tokenize", content=content, **arguments)


def records(response: httpx.Response) -> list[tuple[str, int]]:
    assert response.status_code == 200, response.text
    return [(record["id"], record["n_bases"]) for record in response.json()["records"]]


def problem(response: httpx.Response) -> dict:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:gena:problem:{body['code']}"
    return body


FORM = "application/x-www-form-urlencoded"
TWO_GENES = [("gene1", 7), ("gene2", 6)]


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        FORM,
        "application/octet-stream",
        "text/plain",
        "text/x-fasta",
        "text/plain; charset=utf-8",
    ],
)
def test_fasta_is_recognised_whatever_it_is_called(service, media_type):
    headers = {"Content-Type": media_type} if media_type else {}

    assert records(tokenize(service, FASTA, headers=headers)) == TWO_GENES


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (FASTQ, [("r1", 4), ("r2", 3)]),
        (FASTA.replace(b"\n", b"\r\n"), TWO_GENES),
        (b"\xef\xbb\xbf\n\n" + FASTA, TWO_GENES),
        (FASTA.replace(b"\n", b"\n\n"), TWO_GENES),
        (FASTA.rstrip(), TWO_GENES),
        (FASTA.replace(b"first", "µ".encode()), TWO_GENES),
        (FASTA.lower(), TWO_GENES),
        (FASTA.replace(b"T", b"U"), TWO_GENES),
        (FASTA.replace(b"GT", b"RY"), TWO_GENES),
    ],
    ids=["fastq", "crlf", "bom", "blank", "no end", "foreign title", "lower", "rna", "iupac"],
)
def test_files_as_people_have_them(service, content, expected):
    assert records(tokenize(service, content)) == expected


@pytest.mark.parametrize(
    "content",
    [
        FASTA,
        b'{"sequences":[{"id":"gene1","sequence":"ACGTACG"},{"id":"gene2","sequence":"TTGACA"}]}',
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
def test_gzip_is_recognised_by_content(service, content, headers):
    halves = gzip.compress(content[:9], mtime=0) + gzip.compress(content[9:])

    assert records(tokenize(service, gzip.compress(content, mtime=0), headers=headers)) == TWO_GENES
    assert records(tokenize(service, halves, headers=headers)) == TWO_GENES


@pytest.mark.parametrize("content", [FASTA, gzip.compress(FASTA, mtime=0)])
def test_a_form_carries_a_file(service, content):
    response = service.post("/tokenize", files={"file": ("genes.fa", content)})

    assert records(response) == TWO_GENES


def test_json_with_one_sequence_with_several_and_with_ids(service):
    one = tokenize(service, json.dumps({"sequence": "ac gt\n"}).encode())
    several = service.post("/tokenize", json={"sequences": ["ACGT", "AC"]})
    named = service.post(
        "/tokenize", json={"sequences": ["ACGT", {"id": "mine", "sequence": "AC"}]}
    )

    assert one.json()["changes"] == {"white_space": 2, "lower_case": 4, "uracil": 0, "ambiguous": 0}
    assert "records" not in one.json()
    assert records(several) == [("1", 4), ("2", 2)]
    assert records(named) == [("1", 4), ("mine", 2)]


def test_text_is_the_sequence_itself(service, truth):
    response = tokenize(service, b"ACGTNNRAC\nGT\n", headers={"Content-Type": "text/plain"})

    answer = response.json()
    ids = truth.ids("ACGTNNRACGT")
    assert answer["input_ids"] == [1, *ids, 2]
    assert answer["n_tokens"] == len(ids) + 2
    assert answer["n_unknown"] == ids.count(0) == 1
    assert answer["tokens"][0] == "[CLS]"
    assert answer["offsets"] == [
        [0, 0],
        *[list(pair) for pair in truth.offsets("ACGTNNRACGT")],
        [0, 0],
    ]


@pytest.mark.parametrize(
    ("content", "code", "fields"),
    [
        (b">a\nACGT&>b\nACGT\n", "sequence.invalid_letter", ("a", 5, "&")),
        (b">a\nACGT\n>b\nAC\nGXT\n", "sequence.invalid_letter", ("b", 4, "X")),
        (b">a\nAC-T\n", "sequence.invalid_letter", ("a", 3, "-")),
        (b">a\nAC\xc3\xa9T\n", "sequence.invalid_letter", ("a", 3, "é")),
        (b">a\nAC\xe9T\n", "sequence.invalid_letter", ("a", 3, "\ufffd")),
        (b">a\nACGT\n>b\n>c\nAC\n", "sequence.empty", ("b", None, None)),
        (b">a\nAC\n>a more\nGT\n", "record.duplicate_id", ("a", None, None)),
        (b">\nAC\n", "record.invalid_id", (None, None, None)),
        (b">\xe9\nAC\n", "record.invalid_id", (None, None, None)),
        (">a\u200b\nAC\n".encode(), "record.invalid_id", (None, None, None)),
        (b">" + b"a" * 300 + b"\nAC\n", "record.invalid_id", (None, None, None)),
        (b'{"sequences":[]}', "records.none", (None, None, None)),
        (b'{"sequences":[{"id":"a\\tb","sequence":"A"}]}', "record.invalid_id", (None, None, None)),
        (b"", "body.empty", (None, None, None)),
        (gzip.compress(b"", mtime=0), "body.empty", (None, None, None)),
        (b"  \n ", "body.empty", (None, None, None)),
    ],
)
def test_bad_records_are_errors_that_say_where(service, content, code, fields):
    response = tokenize(service, content)

    found = problem(response)
    assert response.status_code == 422
    assert found["code"] == code
    assert (found.get("record"), found.get("position"), found.get("letter")) == fields


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"@r\nACGT\n+\nII\n", "fastq.invalid"),
        (b"@r\nACGT\n", "fastq.invalid"),
        (b">a ACGTACGT", "fasta.invalid"),
        (b">a\nACGT\n# hidden\nACGT\n", "fasta.invalid"),
        (b'{"sequence": "AC', "json.invalid"),
        (gzip.compress(FASTA, mtime=0)[:-9], "gzip.invalid"),
        (gzip.compress(FASTA, mtime=0) + b"rubbish", "gzip.invalid"),
        (b"\x1f\x8brubbish", "gzip.invalid"),
    ],
)
def test_bodies_that_cannot_be_read(service, content, code):
    response = tokenize(service, content)

    assert response.status_code == 400
    assert problem(response)["code"] == code


@pytest.mark.parametrize("content", [b"ACGTACGT", b"(1)", b"\x00\x01"])
@pytest.mark.parametrize("media_type", [None, FORM])
def test_a_body_that_says_nothing_is_told_which_header_curl_needs(service, content, media_type):
    headers = {"Content-Type": media_type} if media_type else {}

    response = tokenize(service, content, headers=headers)

    assert response.status_code == 415
    assert "-H 'Content-Type: text/plain'" in problem(response)["detail"]


@pytest.mark.parametrize("content", [b"sequence=ACGT", b"pooling=mean&sequence=ACGT"])
def test_the_fields_of_a_form_are_called_that(service, content):
    found = problem(tokenize(service, content, headers={"Content-Type": FORM}))

    assert found["code"] == "body.unsupported_type"
    assert "fields of a form" in found["detail"]
    assert "options go into the query" in found["detail"]
    assert "ACGT, not" not in found["detail"]


@pytest.mark.parametrize("path", ["/tokenize", "/features", "/embeddings", "/v1/embeddings"])
def test_json_that_calls_itself_a_form_is_refused_as_any_web_page_could_send_it(service, path):
    body = json.dumps({"sequence": "ACGT", "input": "ACGT", "model": "m"}).encode()
    for media_type in (FORM, f"{FORM}; charset=utf-8"):
        response = service.post(path, content=body, headers={"Content-Type": media_type})

        found = problem(response)
        assert (response.status_code, found["code"]) == (415, "body.unsupported_type")
        assert "-H 'Content-Type: application/json'" in found["detail"]


@pytest.mark.parametrize("media_type", ["text/x-fasta", "application/octet-stream"])
def test_a_file_that_is_neither_fasta_nor_fastq(service, media_type):
    response = tokenize(service, b"\x00\x01\x02", headers={"Content-Type": media_type})
    form = service.post("/tokenize", files={"file": b"\x00\x01\x02"})

    assert (response.status_code, problem(response)["code"]) == (400, "fasta.invalid")
    assert (form.status_code, problem(form)["code"]) == (400, "fasta.invalid")


def test_other_types_and_encodings_are_refused(service):
    xml = tokenize(service, b"<a/>", headers={"Content-Type": "application/xml"})
    brotli = tokenize(service, b"ACGT", headers={"Content-Encoding": "br"})

    assert (xml.status_code, problem(xml)["code"]) == (415, "body.unsupported_type")
    assert (brotli.status_code, problem(brotli)["code"]) == (415, "body.unsupported_encoding")


@pytest.mark.parametrize(
    "content",
    [b"AC GT\nXA", json.dumps({"sequence": "AC GT\nXA"}).encode()],
    ids=["text", "json"],
)
def test_positions_count_every_submitted_character(service, content):
    headers = {} if content.startswith(b"{") else {"Content-Type": "text/plain"}

    found = problem(tokenize(service, content, headers=headers))

    assert (found["position"], found["letter"]) == (7, "X")
    assert "record" not in found


def test_skip_answers_the_good_ones_and_lists_the_others(service):
    content = b">a\nACGT\n>b\nAXT\n>c\n\n>a\nGG\n>d\nTT\n>\nAC\n"

    answer = tokenize(service, content, params={"on_error": "skip"}).json()

    assert [record["id"] for record in answer["records"]] == ["a", "d"]
    assert [(s["id"], s["code"]) for s in answer["skipped"]] == [
        ("b", "sequence.invalid_letter"),
        ("c", "sequence.empty"),
        ("a", "record.duplicate_id"),
        ("", "record.invalid_id"),
    ]
    assert answer["skipped"][0]["position"] == 2


def test_skip_with_nothing_left_is_an_error_that_lists_all(service):
    found = problem(tokenize(service, b">a\nX\n>b\nY-\n", params={"on_error": "skip"}))

    assert found["code"] == "records.all_skipped"
    assert [s["id"] for s in found["skipped"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"sequence": "A", "sequences": ["A"]}, "request.invalid"),
        ({}, "request.invalid"),
        ({"sequence": 5}, "request.invalid"),
        ({"sequence": None}, "request.invalid"),
        ({"sequences": [5]}, "request.invalid"),
        ({"sequences": [{"id": 1.5, "sequence": "A"}]}, "request.invalid"),
        ({"sequences": [{"sequence": "A"}]}, "request.invalid"),
        ({"sequence": "A", "sequnce": "B"}, "options.unknown"),
        ({"sequence": "A", "pooling": "mean"}, "options.unknown"),
        ([], "records.none"),
        ("A", "request.invalid"),
    ],
)
def test_json_that_does_not_fit(service, body, code):
    response = service.post("/tokenize", json=body)

    assert response.status_code == 422
    assert problem(response)["code"] == code


def test_errors_do_not_repeat_what_was_sent(service):
    secret = "GATTACAGATTACA"
    responses = [
        service.post("/tokenize", json={"sequence": [secret]}),
        service.post("/tokenize", json={"sequence": secret + "!"}),
        tokenize(service, b'{"sequence": "' + secret.encode() + b'", }'),
        tokenize(service, secret.encode()),
        tokenize(service, f">a\n{secret}!\n".encode()),
        tokenize(service, f"@a\n{secret}\n+\n!\n".encode()),
        service.post("/tokenize", params={"on_error": secret}, json={"sequence": secret}),
    ]

    assert all(response.status_code in (400, 415, 422) for response in responses)
    assert not [response.text for response in responses if secret in response.text]


def test_form_fields_are_options_and_other_parts_are_refused(service):
    skipping = service.post(
        "/tokenize", files={"file": b">a\nAC\n>b\nX\n"}, data={"on_error": "skip"}
    )
    no_file = service.post("/tokenize", files={"on_error": (None, "skip")})
    two_files = service.post("/tokenize", files=[("file", b">a\nAC\n"), ("file", b">b\nAC\n")])
    wrong_name = service.post("/tokenize", files={"upload": b">a\nAC\n"})
    unknown = service.post("/tokenize", files={"file": b">a\nAC\n"}, data={"pool": "x"})
    no_boundary = tokenize(service, b"x", headers={"Content-Type": "multipart/form-data"})

    assert records(skipping) == [("a", 2)]
    assert [problem(r)["code"] for r in (no_file, two_files, wrong_name, no_boundary)] == [
        "form.invalid"
    ] * 4
    assert problem(unknown)["code"] == "options.unknown"


def test_options_given_twice_must_agree(service):
    agreeing = service.post(
        "/tokenize", params={"on_error": "skip"}, json={"sequence": "A", "on_error": "skip"}
    )
    differing = service.post(
        "/tokenize", params={"on_error": "error"}, json={"sequence": "A", "on_error": "skip"}
    )

    assert agreeing.status_code == 200
    assert problem(differing)["code"] == "options.conflict"


@pytest.fixture(scope="module")
def strict_service(truth):
    with running(
        truth,
        max_records=3,
        max_record_bases=1000,
        max_request_tokens=1200,
        max_decoded_bytes=3_000_000,
        max_body_bytes=2_000_000,
    ) as service:
        yield service


def bomb(start: bytes, letter: bytes) -> bytes:
    return gzip.compress(start + letter * 100_000_000, compresslevel=1)


@pytest.mark.parametrize(
    ("content", "code", "limit"),
    [
        (b">1\nA\n>2\nA\n>3\nA\n>4\nA\n", "request.too_many_records", 3),
        (b">1\n" + b"A" * 1001, "record.too_long", 1000),
        (b">1\nA\n>2\n" + b"A\n" * 900_000, "record.too_long", 1000),
        (b"@1\n" + b"A" * 1_800_000, "record.too_long", 1000),
        (partial(bomb, b"", b"A"), "record.too_long", 1000),
        (partial(bomb, b">1\n", b">"), "record.too_long", 1000),
        (partial(bomb, b"", b"\n"), "body.too_large_decoded", 3_000_000),
        (b"A" * 2_000_001, "body.too_large", 2_000_000),
        (
            b">1\n" + b"N" * 700 + b"\n>2\n" + b"N" * 700 + b"\n",
            "request.too_many_tokens",
            1200,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_limits(strict_service, content, code, limit):
    headers = {"Content-Type": "text/plain"}
    body = content() if callable(content) else content

    response = strict_service.post("/tokenize", content=body, headers=headers)

    found = problem(response)
    assert response.status_code == 413
    assert (found["code"], found["limit"]) == (code, limit)


def test_zlib_holding_output_back_at_the_end_is_no_early_end(service):
    # One block that inflates to far more than a read asks for.
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = compressor.compress(b">a\nACGT" + b" " * 500_000) + compressor.flush()

    assert records(tokenize(service, data)) == [("a", 4)]


def test_a_long_record_is_tokenized_whole(service, truth):
    sequence = "ACGTTGCAAC" * 3000
    response = tokenize(service, io.BytesIO(b">long\n" + sequence.encode()).read())

    answer = response.json()["records"][0]
    assert answer["input_ids"][1:-1] == truth.ids(sequence)
    assert [tuple(pair) for pair in answer["offsets"][1:-1]] == truth.offsets(sequence)
