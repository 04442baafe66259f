"""Every media type of data and problems, and which of them may carry a file."""

JSON = "application/json"
TEXT = "text/plain"
FORM = "multipart/form-data"
URL_ENCODED = "application/x-www-form-urlencoded"
OCTETS = "application/octet-stream"
FASTA = "text/x-fasta"
FASTQ = "text/x-fastq"

NPY = "application/x-npy"
NPZ = "application/x-npz"
TSV = "text/tab-separated-values"
ARROW = "application/vnd.apache.arrow.stream"
PROBLEM = "application/problem+json"

# Of a body whose sender did not say what it is; the last is what curl says when it is not told.
UNSAID = ("", OCTETS, URL_ENCODED)
# Of those, which JSON may have: a form of any web page can send the last one, without being asked.
MAY_BE_JSON = ("", OCTETS)
# Of bodies that hold FASTA or FASTQ, also gzipped.
FILES = frozenset(
    {
        *UNSAID,
        FASTA,
        FASTQ,
        "application/gzip",
        "application/x-gzip",
        "application/fasta",
        "application/x-fasta",
        "application/fastq",
        "application/x-fastq",
        "chemical/seq-na-fasta",
        "chemical/seq-na-fastq",
        "text/fasta",
        "text/fastq",
    }
)


def is_json(media_type: str) -> bool:
    """Whether a body of this type is JSON."""
    return media_type == JSON or media_type.endswith("+json")
