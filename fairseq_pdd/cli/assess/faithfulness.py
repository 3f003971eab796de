"""``fairseq-pdd assess faithfulness``: a student's measures against its ensemble's."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import typer

from ...assess import (
    Faithfulness,
    Level,
    WithoutTotal,
    detect_without_total,
    faithfulness_of,
    label_of,
    plain_measures,
    set_files,
)
from ...assess.layout import in_domain_of, is_scored
from ...errors import UsageError
from ...records import RecordSet, read_records
from . import _shared

_CORRELATIONS = {
    "spearman": "spearman",
    "given_total": "given total",
    "given_total_and_length": "and length",
    "by_total": "by total",
    "student_coupling": "student coupling",
    "ensemble_coupling": "ensemble coupling",
}
_AREAS = {"roc_auc": "ROC-AUC", "residual": "without total"}

_Found = Mapping[str, Union[Faithfulness, WithoutTotal]]
_Bootstrap = Tuple[int, float, int]


def faithfulness(
    student: Path = typer.Argument(..., help="Folder of the student's records."),
    ensemble: Path = typer.Argument(..., help="Folder of the ensemble's records."),
    measure: Optional[List[str]] = typer.Option(
        None, help="Only this measure (total, rmi, …); may be repeated."
    ),
    resamples: int = _shared.resamples_option(),
    confidence: float = _shared.confidence_option(),
    seed: int = _shared.seed_option(),
    json_path: Optional[Path] = _shared.json_option(),
) -> None:
    """Compare a student's uncertainty with its ensemble's on the same outputs.

    The sets are nll.jsonl and nll_NAME.jsonl, which both folders have of the same outputs
    (fairseq-generate --score-reference). Spearman's rank correlation, over all tokens and over
    sentences, of the student's and the ensemble's values of each measure (spearman); the same with
    the student's total uncertainty partialled out (given total), for sentences also the length
    (and length); of the student's total and the ensemble's measure (by total); and of the measure
    and total within one system (coupling). An rmi that is total under another name has a coupling
    of 1, and nothing is left given total.

    Out-of-domain sets are ood_NAME.jsonl against test.jsonl, which are each system's own outputs,
    and nll_ood_NAME.jsonl against nll.jsonl: ROC-AUC by each measure, and by what a straight line
    on total, fitted to in-domain ranks, leaves of it (without total; 50 % is chance). Intervals are
    those of the percentile bootstrap over sentences.
    """
    from tqdm import tqdm

    folders = {"student": student, "ensemble": ensemble}
    names = _sets(student, ensemble)
    files = [folder / f"{name}.jsonl" for folder in folders.values() for name in names]
    _shared.check_outputs(json_path, inputs=files)
    sets: Dict[str, Dict[str, RecordSet]] = {}
    for name in tqdm(names, "reading", unit="set", leave=False, disable=None):
        ranks = int(is_scored(name))
        sets[name] = {
            system: read_records(folder / f"{name}.jsonl", token_ranks=ranks).best()
            for system, folder in folders.items()
        }
    bootstrap = (resamples, confidence, seed)
    correlations: Dict[str, Dict[str, _Found]] = {}
    detections: Dict[str, Dict[str, _Found]] = {}
    for name in tqdm(names, "assessing", unit="set", leave=False, disable=None):
        if is_scored(name):
            correlations[name] = {
                level.value: _correlate(sets[name], level, measure, bootstrap) for level in Level
            }
        inside = in_domain_of(name)
        if inside is not None:
            detections[name] = {
                system: _detect(sets[inside][system], sets[name][system], measure, bootstrap)
                for system in folders
            }

    for name, by_level in correlations.items():
        lengths = sets[name]["ensemble"].lengths
        for level, found in by_level.items():
            per_token = level == Level.token.value
            unit = f"{lengths.sum()} tokens" if per_token else f"{len(lengths)} sentences"
            columns = dict(_CORRELATIONS)
            if per_token:
                del columns["given_total_and_length"]
            _print(
                f"{label_of(name)}: rank correlations over {unit}", columns, found, resamples > 0
            )
    for name, by_system in detections.items():
        for system, found in by_system.items():
            title = f"{label_of(name)} against {in_domain_of(name)}, {system} (%)"
            _print(title, _AREAS, found, resamples > 0, 1, 100)
    _shared.write_json(
        json_path,
        {
            "student": str(student),
            "ensemble": str(ensemble),
            "bootstrap": {"resamples": resamples, "confidence": confidence, "seed": seed},
            "correlations": {
                name: {
                    "sentences": len(sets[name]["ensemble"]),
                    "tokens": int(sets[name]["ensemble"].lengths.sum()),
                    **{level: _as_json(found) for level, found in by_level.items()},
                }
                for name, by_level in correlations.items()
            },
            "out_of_domain": {
                name: {
                    "in_domain": in_domain_of(name),
                    **{system: _as_json(found) for system, found in by_system.items()},
                }
                for name, by_system in detections.items()
            },
        },
    )


def _sets(*folders: Path) -> List[str]:
    """Return the names of the sets to read; a folder may lack some of them."""
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder: give the one that holds nll.jsonl")
    found = {path.stem for folder in folders for path in set_files(folder)}
    if not any(is_scored(name) for name in found):
        raise UsageError(
            f"{folders[0]} has no outputs that both systems scored (nll.jsonl, nll_NAME.jsonl): "
            "write them with fairseq-generate --score-reference"
        )
    inside = {name: in_domain_of(name) for name in found}
    used = {name for name in found if is_scored(name) or inside[name]}
    return sorted(used | {name for name in inside.values() if name})


def _correlate(
    both: Mapping[str, RecordSet], level: Level, measure: Optional[List[str]], bootstrap: _Bootstrap
) -> _Found:
    student, ensemble = both["student"], both["ensemble"]
    found = faithfulness_of(student, ensemble, level, *bootstrap)
    return _shared.select(found, ensemble.absent, measure, ensemble.name)


def _detect(
    inside: RecordSet, outside: RecordSet, measure: Optional[List[str]], bootstrap: _Bootstrap
) -> _Found:
    try:
        found = detect_without_total(
            plain_measures(inside, Level.sentence),
            plain_measures(outside, Level.sentence),
            *bootstrap,
        )
    except UsageError as error:
        raise UsageError(f"{inside.name} and {outside.name}: {error.message}") from error
    return {name: value for name, value in found.items() if not measure or name in measure}


def _print(
    title: str,
    columns: Mapping[str, str],
    found: _Found,
    intervals: bool,
    digits: int = 2,
    scale: float = 1,
) -> None:
    if not found:
        return
    _shared.print_table(
        title,
        ["measure", *_shared.interval_header(columns.values(), intervals)],
        [
            [
                name,
                *_shared.interval_cells(
                    (getattr(value, key) for key in columns), intervals, digits, scale
                ),
            ]
            for name, value in found.items()
        ],
    )


def _as_json(found: _Found) -> Dict[str, Any]:
    return {
        name: {key: None if e is None else e._asdict() for key, e in value._asdict().items()}
        for name, value in found.items()
    }
