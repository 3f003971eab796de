"""Tables of results as HTML."""

import html
from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np

from ..assess.table import Column, Table
from .descriptions import describe

Details = Mapping[str, Mapping[str, str]]


def html_table(
    table: Table,
    columns: Sequence[Column],
    label: str,
    details: Optional[Details] = None,
    bold: bool = True,
) -> str:
    """Render some columns of a table.

    Args:
        table: results.
        columns: columns of ``table`` to show.
        label: name of the table for screen readers.
        details: small print by system and key of the column.
        bold: True to emphasise the highest value of each column in a group.
    """
    cells = {row[0]: dict(zip((c.key for c in table.columns), row[1:])) for row in table.cells()}
    best = {c.key: _highest(table, c) for c in columns if bold and c.group}
    body = []
    for system, texts in cells.items():
        row = [f'<th scope="row">{html.escape(system)}</th>']
        for number, column in enumerate(columns):
            text = html.escape(texts[column.key].replace("-", "−"))
            if system in best.get(column.key, ()):
                text = f"<strong>{text}</strong>"
            detail = (details or {}).get(system, {}).get(column.key)
            if detail:
                text += f" <small>{html.escape(detail)}</small>"
            row.append(f"<td{_edge(columns, number)}>{text}</td>")
        body.append(f"<tr>{''.join(row)}</tr>")
    name = html.escape(label, quote=True)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table>'
        f'<caption class="unseen">{name}</caption><thead>{_head(columns)}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def html_notes(notes: Sequence[str]) -> str:
    """Render notes as a list; text between backquotes is code."""
    items = []
    for note in notes:
        parts = [html.escape(part) for part in note.split("`")]
        parts[1::2] = [f"<code>{part}</code>" for part in parts[1::2]]
        items.append(f"<li>{''.join(parts)}</li>")
    return f'<ul class="notes quiet">{"".join(items)}</ul>'


def _head(columns: Sequence[Column]) -> str:
    labels = [html.escape(describe(column.name)["label"]) for column in columns]
    names = [
        f'<th scope="col"{_edge(columns, number)}>{label}</th>'
        for number, label in enumerate(labels)
    ]
    if not any(column.group for column in columns):
        return f'<tr><th scope="col">System</th>{"".join(names)}</tr>'
    groups: Dict[str, int] = {}
    for column in columns:
        groups[column.group] = groups.get(column.group, 0) + 1
    upper = [
        f'<th class="group" scope="colgroup" colspan="{count}">{html.escape(group)}</th>'
        if group
        else f'<td colspan="{count}"></td>'
        for group, count in groups.items()
    ]
    return (
        f'<tr><th scope="col" rowspan="2">System</th>{"".join(upper)}</tr><tr>{"".join(names)}</tr>'
    )


def _edge(columns: Sequence[Column], number: int) -> str:
    """Return the class attribute of a column, which marks the start of a group."""
    begins = columns[number].group and (
        number == 0 or columns[number - 1].group != columns[number].group
    )
    return ' class="group"' if begins else ""


def _highest(table: Table, column: Column) -> List[str]:
    """Return the systems whose rounded mean is the highest; none for fewer than two systems."""
    means: Dict[str, float] = {}
    for system, runs in table.rows.items():
        known = [value for run in runs if (value := run[column.key]) is not None]
        if known:
            means[system] = round(float(np.mean(known)), column.digits)
    if len(means) < 2:
        return []
    return [system for system, mean in means.items() if mean == max(means.values())]
