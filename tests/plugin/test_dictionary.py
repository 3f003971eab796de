"""The dictionary of the task against fairseq's."""

from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from fairseq.data import Dictionary

from fairseq_pdd.tasks.distill_translation import DistillTranslationTask

TOKENS = torch.tensor([0, 5, 6, 3, 1, 4, 7, 2, 99, 2])


@pytest.fixture
def path(tmp_path: Path) -> str:
    dictionary = Dictionary()
    for symbol in ("▁a", "b@@", "c", "▁"):
        dictionary.add_symbol(symbol)
    file = str(tmp_path / "dict.txt")
    dictionary.save(file)
    return file


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bpe_symbol": "@@ "},
        {"bpe_symbol": "sentencepiece"},
        {"escape_unk": True},
        {"unk_string": "?"},
        {"extra_symbols_to_ignore": [1, 6]},
        {"include_eos": True},
        {"separator": "_"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "tokens", [TOKENS, TOKENS.int(), TOKENS.tolist(), TOKENS[:0], TOKENS.view(2, 5)]
)
def test_text_is_fairseqs(path: str, tokens: Any, options: Dict[str, Any]) -> None:
    ours = DistillTranslationTask.load_dictionary(path)
    theirs = Dictionary.load(path)
    assert ours.symbols == theirs.symbols
    assert ours.string(tokens, **options) == theirs.string(tokens, **options)


def test_symbols_are_looked_up_by_number_not_by_tensor(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionary = DistillTranslationTask.load_dictionary(path)
    asked = []
    monkeypatch.setattr(Dictionary, "__getitem__", lambda self, i: asked.append(i) or "x")
    dictionary.string(TOKENS.view(2, 5))
    assert asked
    assert not any(torch.is_tensor(i) for i in asked)
