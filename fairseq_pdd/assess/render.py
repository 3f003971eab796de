"""A table as Markdown and as LaTeX."""

import re
from itertools import groupby
from typing import List

from .table import Column, Table

# the paper's symbols (Section 2)
_SYMBOLS = {
    "total": r"$\mathcal{H}$",
    "data": r"$\mathcal{D}$",
    "mutual_information": r"$\mathcal{I}$",
    "epkl": r"$\mathcal{K}$",
    "rmi": r"$\mathcal{M}$",
}
_LATEX = str.maketrans(
    {
        **{character: rf"\{character}" for character in "&%$#_{}"},
        # "[" and "*" would be arguments of the end of the line above
        **{character: f"{{{character}}}" for character in "[]*"},
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "²": r"$^2$",
        "–": "--",
    }
)


def markdown(table: Table) -> str:
    """Render a table, and its notes as a list."""
    from tabulate import tabulate

    header = ["", *(_escape(f"{c.group} {c.name}".strip()) for c in table.columns)]
    cells = [[_escape(text) for text in row] for row in table.cells()]
    text = tabulate(cells, headers=header, tablefmt="github", disable_numparse=True)
    return text + "\n\n" + "".join(f"- {note}\n" for note in table.notes)


def latex(table: Table) -> str:
    """Render a ``tabular`` with the rules of the package booktabs, sets above their measures.

    Measures have the paper's symbols; the notes are comments above.
    """
    groups = [(name, len(list(columns))) for name, columns in groupby(table.columns, _group)]
    top, rules, start = [""], "", 2
    for name, width in groups:
        if name:
            top.append(rf"\multicolumn{{{width}}}{{c}}{{{name.translate(_LATEX)}}}")
            rules += rf"\cmidrule(lr){{{start}-{start + width - 1}}}"
        else:
            top += [""] * width
        start += width
    header = ["Model", *(_heading(column) for column in table.columns)]
    rows = [[text.translate(_LATEX) for text in row] for row in table.cells()]
    lines = [
        *(f"% {note}" for note in table.notes),
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        *([_line(top), rules] if rules else []),
        _line(header),
        r"\midrule",
        *(_line(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Escape what Markdown would read as markup; ``_`` within a word is none."""
    return re.sub(r"[\\|*`<$]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)


def _group(column: Column) -> str:
    return column.group


def _heading(column: Column) -> str:
    return _SYMBOLS.get(column.name, column.name.translate(_LATEX))


def _line(cells: List[str]) -> str:
    return " & ".join(cells) + r" \\"
