"""Builder of transfer sets: a subset of the data, with an ensemble's outputs as targets."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

from tqdm import tqdm

from ..errors import UsageError
from .corpus import Corpus
from .manifests import ManifestCorpus, UtteranceListCorpus
from .pairs import SentencePairCorpus
from .settings import TransferSettings
from .translate import translate

MANIFEST = "transfer-set.json"


def build_transfer_set(settings: TransferSettings) -> None:
    """Build the set, or do nothing if it is complete.

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
            f"{destdir} exists and is not this transfer set: remove it or give another --destdir"
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
            # fairseq-generate fails for a part without batches
            workers = max(1, min(settings.workers, corpus.tokens() // settings.max_tokens))
            hypotheses = translate(replace(settings, workers=workers), corpus, work)
            for index in range(len(corpus)):
                hypothesis = hypotheses.get(index)
                if not hypothesis:  # the source is too long for the models, or the output empty
                    dropped += 1
                    continue
                writer.add_hypothesis(index, hypothesis)
                pairs += 1
    if pairs == 0:
        raise UsageError(
            f"the ensemble translated no sentence of '{settings.subset}' (--subset): all are too "
            "long for the models, or all outputs are empty"
        )
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
    """Open the subset as the kind of data that the folder's files show."""
    data, subset = settings.data, settings.subset
    if (data / settings.config_yaml).is_file():
        return ManifestCorpus(data, subset, settings.config_yaml)
    if (data / "dict.txt").is_file() and any(data.glob("*.json")):
        return UtteranceListCorpus(data, subset)
    return SentencePairCorpus(data, subset, settings.source_lang, settings.target_lang)


def _prepare_work(work: Path, fingerprint: Dict[str, Any]) -> None:
    """Create the working folder; keep the parts of an interrupted run with the same settings."""
    note = work / "settings.json"
    if note.is_file() and json.loads(note.read_text()) != fingerprint:
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(fingerprint))
