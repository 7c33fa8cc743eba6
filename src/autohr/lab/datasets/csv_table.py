"""Tables that people write themselves: CSV as spreadsheet programs save it, in any of the usual forms.

    read_table(path, needed=("video",), known=("video", "hr_bpm")) -> Table

Encoding: UTF-8, UTF-16 or UTF-32 with a byte order mark; without one UTF-8, UTF-16 or Windows-1252. Separator: comma,
semicolon or tab, whichever makes a header with the names that are needed; Excel's first line ``sep=;`` decides where it
stands. Decimal: point or comma. Lines and columns without any content are left out.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from autohr.errors import BadRecording
from autohr.files import read_limited

MAX_TABLE_BYTES = 2**28
"""Largest table that is read, in bytes. Chosen by us: an hour of a wave at 1 kHz has about 70 MB."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""Byte order marks and their encodings; UTF-32's begins as UTF-16's does, so it comes first."""

WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of .xlsx, .ods and .xls files, which are often renamed to .csv."""


@dataclass(frozen=True)
class Table:
    """Table with named columns."""

    path: Path
    names: tuple[str, ...]
    """Names of the columns in small letters, those without a name and content left out."""
    rows: tuple[tuple[int, dict[str, str]], ...]
    """(number of the row's line in the file, from 1; {column: cell}). Cells are in Unicode's composed form, without
    blanks around them; "" where there is nothing."""
    decimal_comma: bool
    """True where "1,234" can only be a number with a decimal comma."""
    notes: tuple[str, ...] = ()
    """Guesses that were made, one sentence each."""

    def number(self, column: str, line: int, cell: str) -> float:
        """Return the finite number in a cell, with a decimal point or a decimal comma.

        Raises
        ------
        BadRecording
            The cell holds no number, or one that can be read in two ways.
        """
        text = cell.replace("\u2212", "-")
        if re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", text) and not self.decimal_comma:
            raise BadRecording(
                f"{str(self.path)!r}, line {line}: {column} {cell[:40]!r} may be a thousand or a decimal comma. Write "
                "it with a decimal point."
            )
        if text.count(",") == 1 and "." not in text:
            text = text.replace(",", ".")
        try:
            # Python takes 1_000 for a number; a sensor's file that holds it is damaged.
            value = math.nan if "_" in text else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadRecording(f"{str(self.path)!r}, line {line}: {cell[:40]!r} is not a number. Correct it.")
        return value


def read_table(path: Path, needed: Sequence[str], known: Collection[str] = ()) -> Table:
    """Read a CSV with a header.

    Parameters
    ----------
    needed
        Columns that must be there.
    known
        Columns whose names are recognised in any spelling, such as "HR (bpm)" for ``hr_bpm``.

    Raises
    ------
    BadRecording
        The file cannot be read or is too large, is no text, lacks a column that is needed, has two
        columns of one name, a row with more cells than columns, or no row. The message names file and line.
    """
    text, notes = _decode(read_limited(path, "table", MAX_TABLE_BYTES, BadRecording), path)
    records, separator = _split(text, path, needed, {*needed, *known})
    header_line, header = records[0]
    names = [_column(cell, {*needed, *known}) for cell in header]
    missing = [name for name in needed if name not in names]
    named = [name for name in names if name]
    if missing or len(set(named)) < len(named):
        wrong = f"no column {missing[0]}" if missing else "two columns of one name"
        raise BadRecording(
            f"{str(path)!r}, line {header_line}: {wrong}; the columns are {', '.join(named)[:200]}. The first line "
            f"must name the columns, {', '.join(needed)} among them, separated by {' or '.join(SEPARATORS.values())}."
        )
    rows = []
    for line, cells in records[1:]:
        # A spreadsheet leaves out the separators of empty cells at the end of a row, or adds some.
        padded = [*cells, *[""] * (len(names) - len(cells))]
        if any(padded[len(names) :]):
            raise BadRecording(
                f"{str(path)!r}, line {line}: {len(cells)} cells where the header has {len(names)}. "
                "Numbers need a decimal point, not a comma, where commas separate the columns."
            )
        for number, (name, cell) in enumerate(zip(names, padded, strict=False), start=1):
            if cell and not name:
                raise BadRecording(
                    f"{str(path)!r}, line {line}: {cell[:40]!r} stands in column {number}, which has no name. Name it "
                    "in the first line, or remove it."
                )
        rows.append((line, {name: cell for name, cell in zip(names, padded, strict=False) if name}))
    if not rows:
        raise BadRecording(f"{str(path)!r} holds a header and nothing else; add a line.")
    decimal_comma = separator != "," and not any(
        re.fullmatch(r"[+-]?\d*\.\d+", cell) for _, cells in rows for cell in cells.values()
    )
    return Table(path, tuple(named), tuple(rows), decimal_comma, notes)


def _decode(content: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the text of a file, and a note where its encoding was guessed."""
    notes: tuple[str, ...] = ()
    if content.startswith(WORKBOOKS):
        raise BadRecording(f"{str(path)!r} is a spreadsheet and no text file; save it as CSV UTF-8.")
    encoding = next((name for mark, name in BOMS if content.startswith(mark)), None)
    if encoding is None and b"\x00" in content:
        # Commas, digits and ends of lines have a zero byte in UTF-16, before or behind the other one.
        zeros = content[0::2].count(0), content[1::2].count(0)
        encoding = "utf-16-be" if zeros[0] > 4 * zeros[1] else "utf-16-le" if zeros[1] > 4 * zeros[0] else None
        if encoding is None:
            raise BadRecording(f"{str(path)!r} is not a text file; save it as CSV UTF-8.")
    try:
        try:
            text = content.decode(encoding or "utf-8")
        except UnicodeDecodeError:
            if encoding is not None:
                raise
            text = content.decode("cp1252")
            notes = (f"{path.name} is not UTF-8 and was read as Windows-1252; save it as UTF-8 if names look wrong.",)
    except UnicodeDecodeError:
        raise BadRecording(
            f"{str(path)!r} is not a text file in UTF-8, UTF-16 or Windows-1252; save it as CSV UTF-8."
        ) from None
    if re.search(r"[\x00-\x08\x0e-\x1f]", text):
        raise BadRecording(f"{str(path)!r} is not a text file; save it as CSV UTF-8.")
    if not text.strip():
        raise BadRecording(f"{str(path)!r} is empty; copy it again.")
    return text, notes


def _split(
    text: str, path: Path, needed: Sequence[str], known: Collection[str]
) -> tuple[list[tuple[int, list[str]]], str]:
    """Return (line, cells) of every row that is not blank, header first, and the separator."""
    declared = re.match(r'\s*"?sep=(.)"?[ \t]*[,;\t]*[ \t]*(?:\r\n|\r|\n|$)', text, re.IGNORECASE)
    if declared is not None and declared[1] in SEPARATORS:
        skipped = len(re.findall(r"\r\n|\r|\n", declared[0]))
        return _records(text[declared.end() :], path, declared[1], skipped), declared[1]

    def fit(separator: str) -> tuple[int, int, int]:
        """Return how well a separator fits the header: names needed, names known, columns."""
        try:
            names = [_column(cell, known) for cell in _records(text, path, separator, 0, first=True)[0][1]]
        except BadRecording:
            return (-1, 0, 0)
        return (sum(name in names for name in needed), sum(name in names for name in known), len(names))

    separator = max(SEPARATORS, key=fit)
    return _records(text, path, separator, 0), separator


def _records(text: str, path: Path, separator: str, skipped: int, first: bool = False) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of every row with content; of the first one only if ``first``."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    records = []
    try:
        for cells in reader:
            cells = [_clean(cell) for cell in cells]
            if any(cells):
                records.append((skipped + reader.line_num, cells))
                if first:
                    break
    except csv.Error as error:
        raise BadRecording(
            f"{str(path)!r}, line {skipped + reader.line_num}: {error}; a quotation mark is missing, or one too many."
        ) from None
    if not records:
        raise BadRecording(f"{str(path)!r} is empty; copy it again.")
    return records


def _clean(cell: str) -> str:
    """Return a cell in composed form (NFC), with single blanks inside and none around."""
    return " ".join(unicodedata.normalize("NFC", cell).split())


def _column(cell: str, known: Collection[str]) -> str:
    """Return the name of a column: one of ``known`` if it is spelled like it, otherwise in small letters."""
    spelled = re.sub(r"[^a-z0-9]+", "_", cell.lower()).strip("_")
    return spelled if spelled in known else cell.lower()
