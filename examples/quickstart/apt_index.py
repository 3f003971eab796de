"""Package descriptions and their translations in apt's indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

BULLET = re.compile(r"\s*[-*+•]\s+|\s+o\s+")


def stanzas(text: str, fields: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the stanzas of an index, reduced to `fields`; values keep continuation lines.

    A stanza that lacks one of the fields (a truncated file) has fewer keys. Lines that are
    neither a field nor a continuation are ignored.
    """
    for block in text.split("\n\n"):
        found: dict[str, str] = {}
        current = None
        for line in block.split("\n"):
            if line[:1] in (" ", "\t"):
                if current is not None:
                    found[current] += "\n" + line[1:]
                continue
            name, colon, value = line.partition(":")
            current = name if colon and name in fields else None
            if current is not None:
                found[current] = value.strip()
        if found:
            yield found


@dataclass(frozen=True)
class Description:
    """A package description: the short line, and paragraphs as tuples of text blocks.

    A paragraph is one block, except that each item of a bulleted list is a block of its own.
    """

    short: str
    paragraphs: tuple[tuple[str, ...], ...]


def parse_description(value: str) -> Description:
    """Split a Description field: short line, then paragraphs separated by a lone full stop."""
    short, _, body = value.partition("\n")
    paragraphs: list[list[str]] = [[]]
    for line in body.split("\n"):
        if line.strip() == ".":
            paragraphs.append([])
            continue
        bullet = BULLET.match(line)
        words = " ".join((line[bullet.end() :] if bullet else line).split())
        blocks = paragraphs[-1]
        if bullet or not blocks:
            blocks.append(words)
        else:
            blocks[-1] += " " + words
    filled = (tuple(block for block in blocks if block) for blocks in paragraphs)
    return Description(" ".join(short.split()), tuple(blocks for blocks in filled if blocks))


def parse_translations(text: str, language: str) -> dict[tuple[str, str], str]:
    """Map (package, Description-md5) to unparsed descriptions, from a Translation index."""
    field = f"Description-{language}"
    table: dict[tuple[str, str], str] = {}
    for stanza in stanzas(text, ("Package", "Description-md5", field)):
        if all(stanza.get(name) for name in ("Package", "Description-md5", field)):
            table.setdefault((stanza["Package"], stanza["Description-md5"]), stanza[field])
    return table


def parse_sources(text: str) -> dict[str, str]:
    """Map binary packages to source packages, from a Packages index."""
    table = {}
    for stanza in stanzas(text, ("Package", "Source")):
        if stanza.get("Package"):
            # "Source: name (version)" if the versions differ; absent if the names agree.
            table[stanza["Package"]] = (stanza.get("Source") or stanza["Package"]).split()[0]
    return table
