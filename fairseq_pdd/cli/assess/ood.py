"""``fairseq-pdd assess ood``: detection of out-of-domain input."""

import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import typer

from ...assess import (
    Combination,
    Detection,
    check_same_lists,
    combine,
    detect_all,
    label_of,
    log_copies,
    set_name,
    split_label,
)
from ...errors import UsageError
from ...records import read_records
from . import _shared

_HEADER = ("ROC-AUC", "AUPR", "FPR@95")


def ood(
    in_domain: Path = typer.Argument(..., help="Records of the in-domain test set."),
    out_of_domain: List[str] = typer.Argument(
        ...,
        help="Records of out-of-domain sets of the same system: [ood_]NAME.jsonl, or NAME=FILE.",
    ),
    measure: Optional[List[str]] = _shared.measure_option(),
    nbest: Combination = _shared.nbest_option(),
    temperature: float = _shared.temperature_option(),
    resamples: int = _shared.resamples_option(),
    confidence: float = _shared.confidence_option(),
    seed: int = _shared.seed_option(),
    json_path: Optional[Path] = _shared.json_option(),
    plots: Optional[Path] = _shared.plots_option("ROC curves and histograms of each measure"),
) -> None:
    """Detect out-of-domain input by its uncertainty.

    For each out-of-domain set and each measure: ROC-AUC (probability that an out-of-domain
    sentence is more uncertain than an in-domain one; 50 % is chance), AUPR (average precision with
    out-of-domain as positive; the share of out-of-domain sentences is chance) and FPR@95 (share
    of in-domain sentences flagged where 95 % of the others are), with confidence intervals of the
    percentile bootstrap over the sentences of either set.
    """
    from tqdm import tqdm

    paths = _named(out_of_domain)
    _shared.check_outputs(json_path, folder=plots, inputs=[in_domain, *paths.values()])
    test = read_records(in_domain, token_ranks=0)
    combined = combine(test, nbest, temperature)
    inside = _shared.select(combined, test.absent, measure, str(in_domain))
    outside: Dict[str, Dict[str, np.ndarray]] = {}
    detections: Dict[str, Dict[str, Optional[Detection]]] = {}
    for name, path in tqdm(paths.items(), "assessing", unit="set", leave=False, disable=None):
        records = read_records(path, token_ranks=0)
        check_same_lists({in_domain: test.nbest, path: records.nbest}, nbest)
        outside[name] = _shared.select(
            combine(records, nbest, temperature), records.absent, measure, str(path)
        )
        log_copies(in_domain, path, inside, outside[name])
        try:
            detections[name] = detect_all(inside, outside[name], resamples, confidence, seed)
        except UsageError as error:
            raise UsageError(f"{in_domain} and {path}: {error.message}") from error

    for name, by_measure in detections.items():
        count = len(next(iter(outside[name].values())))
        total = len(next(iter(inside.values())))
        _shared.print_table(
            f"{name}: {count} sentences against {total} in-domain ones (%)",
            ["measure", *_shared.interval_header(_HEADER, resamples > 0)],
            [
                [key, *_shared.interval_cells(found or [None] * 3, resamples > 0, 1, 100)]
                for key, found in by_measure.items()
            ],
        )
    _shared.write_json(
        json_path,
        {
            "in_domain": {"path": str(in_domain), "sentences": len(next(iter(inside.values())))},
            "nbest": nbest.value,
            "temperature": temperature,
            "bootstrap": {"resamples": resamples, "confidence": confidence, "seed": seed},
            "out_of_domain": {
                name: {
                    "path": str(paths[name]),
                    "sentences": len(next(iter(outside[name].values()))),
                    "measures": {key: _as_json(found) for key, found in by_measure.items()},
                }
                for name, by_measure in detections.items()
            },
        },
    )
    if plots is not None:
        from ...assess.plots import histograms, roc_curves

        for key in _shared.for_figures(inside, measure):
            sets = {name: values[key] for name, values in outside.items()}
            curves = {name: (inside[key], values) for name, values in sets.items()}
            _shared.write_figure(roc_curves(curves, key), plots, f"roc-{key}")
            figure = histograms(inside[key], sets, f"{key} (nats per token)")
            _shared.write_figure(figure, plots, f"histograms-{key}")


def _named(arguments: List[str]) -> Dict[str, Path]:
    """Return the out-of-domain files by name: ``NAME=FILE``, or NAME of ``[ood_]NAME.jsonl``."""
    paths: Dict[str, Path] = {}
    for argument in arguments:
        split = split_label(argument, lambda text: Path(text) if Path(text).exists() else None)
        if split is None:  # the reader's message names the file
            name, equals, path = argument.partition("=")
            is_name = equals and os.sep not in name
            split = (name, Path(path)) if is_name else ("", Path(argument))
        label = label_of(split[0]) or set_name(split[1].stem)
        if label in paths:
            raise UsageError(
                f"{paths[label]} and {split[1]} are both called '{label}': give NAME={split[1]}"
            )
        paths[label] = split[1]
    return paths


def _as_json(detection: Optional[Detection]) -> Optional[Dict[str, Any]]:
    if detection is None:
        return None
    return {name: value._asdict() for name, value in detection._asdict().items()}
