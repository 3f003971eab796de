"""Style, script, data and sections → the one file that is the page."""

import base64
import hashlib
import html
import json
from importlib import resources
from string import Template
from typing import Any, Mapping

from .. import __version__


def render_page(
    title: str, facts: str, sections: str, manifest: Any, data: Mapping[str, Any]
) -> str:
    """Fill the page.

    Args:
        title: of the page.
        facts: a line of text below it.
        sections: markup of tables and plots, safe as it stands.
        manifest: what the script reads first.
        data: by element id what it reads when a set is chosen.
    """
    # A browser takes line ends in the script as this does, so that the hash holds.
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
    """Data that no browser runs and nothing in it can end."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # half of a surrogate pair, which UTF-8 has not, becomes JSON's escape of it
    text = text.replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode("utf-8")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _package_file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
