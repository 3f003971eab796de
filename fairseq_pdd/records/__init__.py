"""The record format, one JSON object per hypothesis: field names, writers, reader, atomic files.

This package imports neither torch nor fairseq.
"""

from .fields import EXPR, EXPR_PREFIX, FIELDS, JOINT_ESTIMATES, MEASURES
from .reader import Record, RecordSet, TokenColumns, collect_records, read_records
from .writer import (
    PARTIAL_SUFFIX,
    JsonLinesWriter,
    StdoutWriter,
    StreamWriter,
    dumps,
    make_record,
)

__all__ = [
    "EXPR",
    "EXPR_PREFIX",
    "FIELDS",
    "JOINT_ESTIMATES",
    "MEASURES",
    "PARTIAL_SUFFIX",
    "JsonLinesWriter",
    "Record",
    "RecordSet",
    "StdoutWriter",
    "StreamWriter",
    "TokenColumns",
    "collect_records",
    "dumps",
    "make_record",
    "read_records",
]
