"""Check the wording rules that a program can check; `make lint` runs it.

Docstrings start with a verb or with the noun that they define, and texts use the field's terms.
Prints one line per finding and exits with 1 if there are any.

    check_words.py [FILE ...]   (default: all tracked Python, shell and Markdown files)
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Iterator, List, Tuple

Finding = Tuple[int, str]

_OPENINGS = {
    "Of",
    "As",
    "What",
    "Whether",
    "Which",
    "How",
    "Where",
    "When",
    "Like",
    "By",
    "For",
    "To",
    "With",
    "Told",
    "Same",
}
_TERMS = {
    r"said|says": "outputs, or 'is', 'gives', 'reports'",
    r"overh(ear|eard|ears)": "traced",
    r"mend(s|ed|ing)?": "fix",
    r"told|tells of": "logged, reported",
    r"left out|leaves out|left_out": "skipped",
    r"c[ao]m(e|es) by|came by": "visited",
    r"t(ake|akes|aken|ook) note of": "record",
    r"by heart": "overfit",
    r"stands? in for|stood in for": "replaces (tests: fake)",
    r"chosen": "selected, or token_log_probs",
    r"nats an? (token|word|sentence)": "nats per token",
    r"an? (token|word|sentence|row|hypothesis|class|logit)'s share": "what it is",
}
_PATTERN = re.compile(
    "|".join(rf"(?P<t{number}>\b(?:{term})\b)" for number, term in enumerate(_TERMS)), re.IGNORECASE
)
_ADVICE = list(_TERMS.values())


def main() -> None:
    """Check the files and exit."""
    own = Path(__file__).resolve()
    paths = [Path(name) for name in sys.argv[1:] or _tracked()]
    found = 0
    for path in paths:
        if path.resolve() == own or not path.is_file():
            continue
        for line, message in sorted(set(_check(path))):
            print(f"{path}:{line}: {message}")
            found += 1
    if found:
        sys.exit(f"{found} findings; the rules are in CONTRIBUTING.md")


def _tracked() -> List[str]:
    command = ["git", "ls-files", "*.py", "*.sh", "*.md", "Makefile"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def _check(path: Path) -> Iterator[Finding]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from _terms(text, 1)
        return
    yield from _docstrings(ast.parse(text))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _TEXT_TOKENS:
            yield from _terms(token.string.replace("_", " "), token.start[0])


_TEXT_TOKENS = {tokenize.COMMENT, tokenize.STRING, tokenize.NAME}
if hasattr(tokenize, "FSTRING_MIDDLE"):  # Python 3.12 and later
    _TEXT_TOKENS.add(tokenize.FSTRING_MIDDLE)


def _terms(text: str, first_line: int) -> Iterator[Finding]:
    for match in _PATTERN.finditer(text):
        number = int(str(match.lastgroup)[1:])
        line = first_line + text.count("\n", 0, match.start())
        yield line, f"'{match.group()}': write {_ADVICE[number]}"


def _docstrings(tree: ast.AST) -> Iterator[Finding]:
    """Check the first word of each docstring, those of attributes included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement in body:
            if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
                continue
            text = statement.value.value
            if not isinstance(text, str):
                continue
            word = re.match(r"\W*(\w+)", text)
            if word is not None and word[1] in _OPENINGS:
                message = f"docstring starts with '{word[1]}': start with a verb or a noun"
                yield statement.lineno, message


if __name__ == "__main__":
    main()
