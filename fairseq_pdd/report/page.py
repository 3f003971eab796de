"""Rendering of the page: style, script, data and sections in one file."""

import base64
import hashlib
import html
import json
from importlib import resources
from string import Template
from typing import Any, Mapping

from ..version import __version__


def render_page(
    title: str, facts: str, sections: str, manifest: Any, data: Mapping[str, Any]
) -> str:
    """Fill the template.

    Args:
        title: title of the page.
        facts: a line of text below the title.
        sections: markup of tables and plots, already escaped.
        manifest: data that the script reads first.
        data: data by element id, which the script reads when a set is selected.
    """
    # the hash is of the script as a browser sees it, line ends included
    script = "\n" + _package_file("page.js").strip() + "\n"
    return Template(_package_file("page.html")).substitute(
        title=html.escape(title),
        facts=html.escape(facts),
        version=html.escape(__version__),
        style=_package_file("page.css").strip(),
        sections=sections,
        data="\n".join(
            _json_element(name, value) for name, value in {"manifest": manifest, **data}.items()
        ),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode(),
    )


def _json_element(name: str, value: Any) -> str:
    """Render data as an element that no browser runs and whose content cannot end it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # UTF-8 cannot hold half of a surrogate pair: write JSON's escape of it
    text = text.replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode("utf-8")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _package_file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
