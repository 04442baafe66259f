"""Which writer a format has."""

from app.answers.arrow_writer import ArrowWriter
from app.answers.json_writer import JsonWriter
from app.answers.npy_writer import NpyWriter
from app.answers.npz_writer import NpzWriter
from app.answers.tsv_writer import TsvWriter
from app.answers.writer import Writer
from app.requests.options import Format

# Where an Accept header likes several alike, the first of them is taken.
WRITERS: dict[Format, type[Writer]] = {
    "json": JsonWriter,
    "npy": NpyWriter,
    "npz": NpzWriter,
    "tsv": TsvWriter,
    "arrow": ArrowWriter,
}
