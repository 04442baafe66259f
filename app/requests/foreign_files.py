"""What people send in place of sequences: known by its first bytes, with the command that helps."""

import re
from dataclasses import dataclass

from app.requests.tables import recognise_table

_TAR_MARK = slice(257, 262)
# What the first file of an archive is called, by Microsoft's programs and by LibreOffice.
_ZIP, _ZIP_NAME = b"PK\x03\x04", slice(30, 60)
_OF_OFFICE = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"mimetypeapplication/vnd.oasis")


@dataclass(frozen=True)
class Foreign:
    """A kind of file that is not read here.

    Attributes:
        name: as people call it, with its article.
        advice: what makes FASTA of it; a sentence.
    """

    name: str
    advice: str


def _unpacked_by(command: str) -> str:
    return f"Unpack it: {command}"


# Words after the program, and no quotes within it: see `app.requests.tables`.
def _by_biopython(format_: str, end: str) -> str:
    return (
        "Make FASTA of it, with Biopython: python3 -c 'import sys; from Bio import SeqIO; "
        f"SeqIO.convert(*sys.argv[1:])' file.{end} {format_} genes.fa fasta"
    )


_ALIGNMENT = (
    "Make FASTA of it without its gaps, with Biopython: python3 -c 'import sys; from Bio import "
    "AlignIO; AlignIO.convert(*sys.argv[1:])' file {0} aligned.fa fasta; "
    "sed '/^[^>]/s/[-.]//g' aligned.fa > genes.fa"
)
_READS = "Take its reads out: samtools fasta reads.{0} > reads.fa"
_INTERVALS = (
    "It has places and no sequences; take those from the genome: bedtools getfasta -fi genome.fa "
    "-bed {0} -fo regions.fa"
)
_AS_TEXT = "Save it as plain text."

_OFFICE = "Save a sheet as CSV UTF-8, or a text as plain text (.txt), and send that."

_BY_START: tuple[tuple[bytes, Foreign], ...] = (
    (_ZIP, Foreign("a zip archive", _unpacked_by("unzip genes.zip"))),
    (b"BZh", Foreign("bzip2", _unpacked_by("bunzip2 genes.fa.bz2"))),
    (b"\xfd7zXZ\0", Foreign("xz", _unpacked_by("unxz genes.fa.xz"))),
    (b"\x28\xb5\x2f\xfd", Foreign("zstd", _unpacked_by("unzstd genes.fa.zst"))),
    (b"7z\xbc\xaf\x27\x1c", Foreign("a 7z archive", _unpacked_by("7z x genes.7z"))),
    (
        b"\x1f\x8b",
        Foreign("gzip in gzip", _unpacked_by("gunzip genes.fa.gz, and send what it gives")),
    ),
    (b"\x43\x27\x41\x1a", Foreign("2bit", "Make FASTA of it: twoBitToFa genome.2bit genome.fa")),
    (b"\x1a\x41\x27\x43", Foreign("2bit", "Make FASTA of it: twoBitToFa genome.2bit genome.fa")),
    (
        b"\xff\xfe",
        Foreign("text in UTF-16", "Make UTF-8 of it: iconv -f UTF-16 -t UTF-8 genes.fa > utf8.fa"),
    ),
    (
        b"\xfe\xff",
        Foreign("text in UTF-16", "Make UTF-8 of it: iconv -f UTF-16 -t UTF-8 genes.fa > utf8.fa"),
    ),
    (b"BAM\x01", Foreign("BAM", _READS.format("bam"))),
    (b"CRAM", Foreign("CRAM", _READS.format("cram"))),
    (b"@HD\t", Foreign("SAM", _READS.format("sam"))),
    (b"@SQ\t", Foreign("SAM", _READS.format("sam"))),
    (b"@PG\t", Foreign("SAM", _READS.format("sam"))),
    (b"@RG\t", Foreign("SAM", _READS.format("sam"))),
    (b"@CO\t", Foreign("SAM", _READS.format("sam"))),
    (b"\x00\x00\x00\x0eSnapGene", Foreign("a SnapGene file", _by_biopython("snapgene", "dna"))),
    (b"ABIF", Foreign("an ABI trace", _by_biopython("abi", "ab1"))),
    (b".scf", Foreign("an SCF trace", "Export FASTA from the program that shows it.")),
    (b"CLUSTAL", Foreign("a Clustal alignment", _ALIGNMENT.format("clustal"))),
    (b"MUSCLE", Foreign("a Clustal alignment", _ALIGNMENT.format("clustal"))),
    (b"# STOCKHOLM", Foreign("a Stockholm alignment", _ALIGNMENT.format("stockholm"))),
    (b"#NEXUS", Foreign("a NEXUS file", _ALIGNMENT.format("nexus"))),
    (b"##gff-version", Foreign("GFF", _INTERVALS.format("genes.gff"))),
    (b"##gtf", Foreign("GTF", _INTERVALS.format("genes.gtf"))),
    (
        b"##fileformat=VCF",
        Foreign("VCF", "Make sequences of it: bcftools consensus -f genome.fa calls.vcf.gz"),
    ),
    (b"%PDF", Foreign("a PDF", _AS_TEXT)),
    (b"{\\rtf", Foreign("RTF", _AS_TEXT)),
    (b"\xd0\xcf\x11\xe0", Foreign("an Office file", _AS_TEXT)),
    (
        b"#",
        Foreign("a file whose first line is a comment", "FASTA has none: grep -v '^#' genes.fa"),
    ),
    (b"<", Foreign("HTML or XML", "Download the file itself, not its page.")),
)
_PHYLIP = re.compile(rb"\d+[ \t]+\d+[ \t]*\r?\n")
_OLD_FASTA = re.compile(rb"(;[^\r\n]*\s+)+>")
_BED = re.compile(rb"([^\t\r\n]+\t\d+\t\d+[\t\r\n]|track[ \t]|browser[ \t])")
_GFF = re.compile(rb"(?:[^\t\r\n]+\t){3}\d+\t\d+\t[^\t\r\n]+\t[-+.?]\t")


def recognise_foreign(first: bytes, *, may_be_table: bool) -> Foreign | None:
    """What a body is that holds no sequences as they are read here; None where it may.

    Args:
        first: its first bytes, `LOOKED_AT` (of `app.requests.tables`) where it has so many,
            without white space before them.
        may_be_table: they are not known to be of something else.
    """
    if first.startswith(_ZIP) and first[_ZIP_NAME].startswith(_OF_OFFICE):
        return Foreign("a file of Excel, Word or the like", _OFFICE)
    for start, foreign in _BY_START:
        if first.startswith(start):
            return foreign
    if first[_TAR_MARK] == b"ustar":
        return Foreign("a tar archive", _unpacked_by("tar -xf genes.tar"))
    if _PHYLIP.match(first):
        return Foreign("a PHYLIP alignment", _ALIGNMENT.format("phylip-relaxed"))
    if _OLD_FASTA.match(first):
        advice = "Those of today have none: grep -v '^;' genes.fa"
        return Foreign("FASTA that begins with a comment", advice)
    if may_be_table and _BED.match(first):
        return Foreign("BED", _INTERVALS.format("places.bed"))
    if may_be_table and _GFF.match(first):
        return Foreign("GFF or GTF", _INTERVALS.format("genes.gff"))
    if may_be_table and (table := recognise_table(first)) is not None:
        return Foreign(*table)
    return None
