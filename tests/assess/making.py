"""Records for tests, as fairseq-generate writes them, with values that are easy to follow."""

import json
import random
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

MEASURES = ("total", "data", "mutual_information", "epkl", "rmi", "score", "rmi_score")
SINGLE = ("total", "score")


def block(tokens: Dict[str, Optional[List[float]]]) -> Dict[str, Any]:
    """Return token values, their means and the log-probability."""
    means = {name: None if v is None else sum(v) / len(v) for name, v in tokens.items()}
    score = tokens["score"]
    assert score is not None
    return {"log_prob": -sum(score), "sequence": means, "token": tokens}


def output(
    number: int,
    tokens: Sequence[str],
    score: Sequence[float],
    hypothesis: str,
    reference: Optional[str],
    rank: int = 0,
) -> Dict[str, Any]:
    """Make a hypothesis of a single model; total is twice its score."""
    values: Dict[str, Optional[List[float]]] = dict.fromkeys(MEASURES)
    values.update(total=[2 * value for value in score], score=list(score))
    return {
        "id": number,
        "rank": rank,
        "source": None,
        "reference": reference,
        "hypothesis": hypothesis,
        "tokens": list(tokens),
        **block(values),
    }


def records(
    size: int, scale: float, seed: int, kind: str = "ensemble", nbest: int = 2
) -> List[Dict[str, Any]]:
    """Make outputs with wrong words, which are twice as uncertain; ``scale`` is uncertainty.

    The references do not depend on the seed, but on the set, of which ``scale`` is typical.
    """
    rng = random.Random(seed)
    texts = random.Random(scale)

    def values(wrong: List[int]) -> Dict[str, Any]:
        names = SINGLE if kind == "single" else MEASURES
        drawn = {n: [rng.expovariate(1 / (scale * (1 + w))) for w in wrong] for n in names}
        return block({name: drawn.get(name) for name in MEASURES})

    made = []
    for number in range(size):
        reference = [f"word{texts.randint(0, 50)}" for _ in range(texts.randint(4, 9))]
        for rank in range(nbest):
            wrong = [int(rng.random() < 0.2) for _ in reference]
            words = ["mistake" if bad else word for word, bad in zip(reference, wrong)]
            pieces = [piece for word in words for piece in (f"▁{word[:3]}", word[3:])]
            # two pieces per word, and the end of the sequence
            labels = [bad for bad in wrong for _ in range(2)] + [0]
            record = {
                "id": number,
                "rank": rank,
                "source": " ".join(reference),
                "reference": " ".join(reference),
                "hypothesis": " ".join(words),
                "tokens": [*pieces, "</s>"],
                **values(labels),
            }
            if kind == "ensemble":
                record["expr"] = values(labels)
            made.append(record)
    return made


def rescored(outputs: Sequence[Dict[str, Any]], seed: int, kind: str) -> List[Dict[str, Any]]:
    """Score the same outputs by another system, whose values are similar."""
    rng = random.Random(seed)
    names = SINGLE if kind == "single" else MEASURES
    made = []
    for record in outputs:
        values: Dict[str, Optional[List[float]]] = dict.fromkeys(MEASURES)
        for name in names:
            values[name] = [value * rng.uniform(0.4, 1.6) for value in record["token"][name]]
        made.append({**record, **block(values), "expr": None})
    return made


def write(path: Path, lines: Sequence[Any]) -> Path:
    """Write a file of records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def write_folder(root: Path, size: int = 40) -> Path:
    """Write the sets of three systems, one of them with two seeds."""
    kinds = {
        "ensemble": "ensemble",
        "pd_send2": "student",
        "single-seed1": "single",
        "single-seed2": "single",
    }
    scales = {"test": 0.3, "ood_french": 0.5, "ood_permuted": 0.35, "nll": 0.4, "nll_ensemble": 0.2}
    for i, (system, kind) in enumerate(kinds.items()):
        for j, (name, scale) in enumerate(scales.items()):
            nbest = 1 if name.startswith("nll") else 2
            made = records(size, scale, seed=10 * i + j, kind=kind, nbest=nbest)
            write(root / system / f"{name}.jsonl", made)
    return root
