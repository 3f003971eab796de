"""Records of invented systems, as fairseq-generate writes them."""

import json
import random
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from fairseq_pdd.assess import TRANSLATION, System
from fairseq_pdd.report.assemble import build_report

MEASURES = ("total", "data", "mutual_information", "epkl", "rmi", "score", "rmi_score")
SYLLABLES = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "ei", "an", "en")]


def make_scores(rng: random.Random, tokens: int, level: float, knowledge: bool) -> Dict[str, Any]:
    """Draw token values and their means; the identities of the measures hold."""
    columns: Dict[str, Optional[List[float]]] = {name: [] for name in MEASURES}
    for _ in range(tokens):
        data, mutual, rmi = (rng.gammavariate(1.2, level * s) for s in (1.0, 0.15, 0.2))
        score = rng.expovariate(1 / (data + mutual + 0.05))
        row = (data + mutual, data, mutual, mutual + rmi, rmi, score, rmi * rng.uniform(-0.2, 1.5))
        for name, value in zip(MEASURES, row):
            column = columns[name]
            assert column is not None
            column.append(round(value, 6))
    if not knowledge:
        for name in MEASURES:
            if name not in ("total", "score"):
                columns[name] = None
    score_column = columns["score"]
    assert score_column is not None
    return {
        "log_prob": round(-sum(score_column), 6),
        "sequence": {
            name: None if column is None else round(sum(column) / tokens, 6)
            for name, column in columns.items()
        },
        "token": columns,
    }


def make_records(
    seed: int,
    sentences: int,
    nbest: int = 1,
    level: float = 1.0,
    knowledge: bool = True,
    expr: bool = False,
    words: int = 9,
) -> List[Dict[str, Any]]:
    """Make hypotheses in the order of their lengths, as fairseq-generate writes them."""
    rng = random.Random(seed)
    texts = random.Random(99)  # the same sources for all systems
    records = []
    for number in range(sentences):
        source = " ".join(_word(texts) for _ in range(texts.randint(3, words)))
        reference = source[::-1]
        for rank in range(nbest):
            pieces = []
            for word in reference.split():
                shown = _word(rng) if rng.random() < 0.2 + 0.1 * rank else word
                cut = max(1, len(shown) // 2)
                pieces += ["▁" + shown[:cut], *([shown[cut:]] if shown[cut:] else [])]
            tokens = [*pieces, "</s>"]
            hypothesis = "".join(pieces).replace("▁", " ").strip()
            spread = level * rng.uniform(0.4, 1.6)
            record = {
                "id": number,
                "rank": rank,
                "source": source,
                "reference": reference,
                "hypothesis": hypothesis,
                "tokens": tokens,
                **make_scores(rng, len(tokens), spread, knowledge),
            }
            if expr:
                record["expr"] = make_scores(rng, len(tokens), spread, knowledge)
            records.append(record)
    records.sort(key=lambda record: len(record["tokens"]))
    return records


def write(path: Path, records: Sequence[Dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def write_report(
    folder: Path,
    systems: Mapping[str, Mapping[str, Sequence[Dict[str, Any]]]],
    title: str = "A report",
    **limits: int,
) -> Path:
    """Write records of each system and set, and their report."""
    for system, sets in systems.items():
        for name, records in sets.items():
            write(folder / system / f"{name}.jsonl", records)
    compared = [System(name, (folder / name,)) for name in systems]
    path = folder / "report.html"
    path.write_text(build_report(compared, TRANSLATION, title, **limits), encoding="utf-8")
    return path


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.randint(1, 4)))
