"""From data and an ensemble to the same data with what the ensemble says as targets."""

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from tqdm import tqdm

from ..errors import UsageError
from .corpus import Corpus
from .manifests import ManifestTable, UtteranceList
from .pairs import SentencePairs
from .translate import translate

logger = logging.getLogger(__name__)

MANIFEST = "transfer-set.json"


@dataclass(frozen=True)
class TransferSettings:
    """What makes a transfer set; see ``fairseq-pdd transfer-set --help``."""

    data: Path
    checkpoints: Tuple[str, ...]
    destdir: Path
    targets: str
    subset: str
    source_lang: Optional[str]
    target_lang: Optional[str]
    config_yaml: str
    beam: int
    max_tokens: int
    workers: int
    generate_args: Tuple[str, ...]

    def fingerprint(self) -> Dict[str, Any]:
        """Everything that the result depends on, as JSON."""
        values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        values["checkpoints"] = [
            [os.path.abspath(path), os.path.getsize(path)] for path in self.checkpoints
        ]
        values["data"] = str(self.data.resolve())
        return json.loads(json.dumps(values))


def build_transfer_set(settings: TransferSettings) -> None:
    """Build the set, or do nothing if it is there already.

    Raises:
        UsageError: input is missing, ``destdir`` holds something else, or translation failed.
    """
    _check(settings)
    corpus = _corpus(settings)
    destdir, manifest = settings.destdir, settings.destdir / MANIFEST
    fingerprint = settings.fingerprint()
    if destdir.exists():
        if manifest.is_file() and json.loads(manifest.read_text())["settings"] == fingerprint:
            tqdm.write(f"{destdir} is complete already")
            return
        raise UsageError(
            f"{destdir} exists and is not this transfer set: remove it or choose another --destdir"
        )
    work = destdir.with_name(destdir.name + ".partial")
    _prepare_work(work, fingerprint)

    pairs = 0
    dropped = 0
    output = work / "set"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    with corpus.writer(output) as writer:
        if settings.targets in ("reference", "both"):
            for index in range(len(corpus)):
                writer.add_reference(index)
                pairs += 1
        if settings.targets in ("ensemble", "both"):
            # fairseq-generate fails on a part without a single batch
            workers = max(1, min(settings.workers, corpus.tokens() // settings.max_tokens))
            hypotheses = translate(replace(settings, workers=workers), corpus, work)
            for index in range(len(corpus)):
                hypothesis = hypotheses.get(index)
                if not hypothesis:  # too long for the models, or an empty output
                    dropped += 1
                    continue
                writer.add_hypothesis(index, hypothesis)
                pairs += 1
    if pairs == 0:
        raise UsageError(f"the ensemble translated no sentence of '{settings.subset}'")
    corpus.link_rest(output)
    counts = {"pairs": pairs, "sentences": len(corpus), "dropped": dropped}
    manifest_text = json.dumps({"settings": fingerprint, "counts": counts}, indent=2)
    (output / MANIFEST).write_text(manifest_text + "\n")
    os.replace(output, destdir)
    shutil.rmtree(work)
    tqdm.write(
        f"{destdir}: {pairs:,} pairs from {len(corpus):,} sentences"
        + (f", {dropped:,} without translation dropped" if dropped else "")
    )


def _check(settings: TransferSettings) -> None:
    if not settings.data.is_dir():
        raise UsageError(
            f"data folder {settings.data} does not exist: give the data that the ensemble was "
            "trained on"
        )
    missing = [path for path in settings.checkpoints if not os.path.isfile(path)]
    if missing:
        raise UsageError(f"checkpoint not found: {', '.join(missing)} (--path a.pt:b.pt)")


def _corpus(settings: TransferSettings) -> Corpus:
    """The subset, by the kind of files that are there."""
    if (settings.data / settings.config_yaml).is_file():
        return ManifestTable(settings.data, settings.subset, settings.config_yaml)
    if (settings.data / "dict.txt").is_file() and any(settings.data.glob("*.json")):
        return UtteranceList(settings.data, settings.subset)
    return SentencePairs(settings.data, settings.subset, settings.source_lang, settings.target_lang)


def _prepare_work(work: Path, fingerprint: Dict[str, Any]) -> None:
    """Keep what an interrupted run with the same settings has left, nothing else."""
    note = work / "settings.json"
    if note.is_file() and json.loads(note.read_text()) != fingerprint:
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(fingerprint))
