"""Files of calls: rows of CSV and lines of NDJSON become items of the wire form, each as JSON text. Pure.

A file is read line by line, from any place noted before. A line that cannot be an item says why; what
the rules say of an item is for `schemas/batches.py`, the same as over HTTP.
"""

from __future__ import annotations

from datetime import timedelta
from typing import BinaryIO

from app.api_gateway.call_files.call_file import CallFile, CallLine
from app.api_gateway.call_files.csv_calls import CsvCalls
from app.api_gateway.call_files.forms import (
    FileForm,
    FileFormat,
    ImportFault,
    assignments,
    check_form,
    constants_of,
)
from app.api_gateway.call_files.lines import Place
from app.api_gateway.call_files.ndjson_calls import NdjsonCalls

__all__ = [
    "CallFile",
    "CallLine",
    "FileForm",
    "FileFormat",
    "ImportFault",
    "Place",
    "assignments",
    "check_form",
    "constants_of",
    "open_calls",
]


def open_calls(stream: BinaryIO, form: FileForm, *, shift: timedelta = timedelta()) -> CallFile:
    """Return the calls of a file that can seek, their times moved by `shift`.

    Raises ImportFault when it cannot be such a file: no rows, no UTF-8, a column that it does not have.
    """
    kind = CsvCalls if form.format is FileFormat.csv else NdjsonCalls
    return kind(stream, form, shift=shift)
