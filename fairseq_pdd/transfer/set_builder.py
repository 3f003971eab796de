"""Builder of transfer sets: a subset of the data, with an ensemble's outputs as targets."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from tqdm import tqdm

from ..checkpoints.fit import require_files
from ..errors import UsageError
from ..records.files import lock_file, write_text
from ..records.shards import shard_of
from ..teacher.cache.content import checkpoints_sha256
from ..teacher.cache.layout import differences, require_subset_name
from .corpus import Corpus
from .manifests import ManifestCorpus, UtteranceListCorpus
from .members import languages, require_fit
from .options import search_options
from .pairs import SentencePairCorpus
from .settings import TransferSettings
from .translate import has_finished_part, translate

MANIFEST = "transfer-set.json"
_SETTINGS = "settings.json"


def build_transfer_set(settings: TransferSettings) -> None:
    """Build the set, or do nothing if it is complete.

    A set is known by the content of what it was made of: checkpoints, data, audio and the options
    of the search. All of it is read at the start, audio and features too. With a shard's number,
    translate this shard only; a run without one translates what is missing and writes the set.

    Raises:
        UsageError: input is missing, ``destdir`` holds something else, another process builds the
            set, or translation failed.
    """
    _check(settings)
    shard = shard_of(settings.num_shards, settings.shard_id)
    if shard is not None and not settings.translates:
        raise UsageError("--shard-id has no use for --targets reference: remove it")
    # of a link, the folder that it leads to; "." has no name to derive others from
    settings = replace(settings, destdir=Path(os.path.realpath(settings.destdir)))
    corpus = _corpus(settings)
    if settings.share is not None:
        _keep_share(settings, corpus, settings.share)
    if settings.needs_references and not corpus.has_references:
        raise UsageError(
            f"'{settings.subset}' of {settings.data} has no targets: give --targets ensemble"
        )
    options = search_options(settings, corpus)
    if settings.translates:
        require_fit(settings, corpus)
    if settings.destdir.exists():
        made_of = _made_of(settings, corpus, options)
        _require_complete(settings.destdir, made_of)
        _remove_leftovers(settings.destdir, made_of)
        tqdm.write(f"{settings.destdir} is complete already")
        return
    with lock_file(settings.destdir, shard):
        if settings.destdir.exists():
            raise UsageError(f"another process has just made {settings.destdir}: start again")
        try:
            made_of = _made_of(settings, corpus, options)
            if shard is None:
                _build(settings, corpus, made_of)
            else:
                _translate_shard(settings, corpus, made_of, shard)
        except OSError as error:
            raise UsageError(f"cannot write {settings.destdir}: {error}") from error


def _build(settings: TransferSettings, corpus: Corpus, made_of: Dict[str, Any]) -> None:
    destdir = settings.destdir
    work = _work(destdir)
    _prepare_work(work, made_of)

    pairs = extra = dropped = 0
    output = _empty(work / "set")
    with corpus.writer(output) as writer:
        if settings.needs_references:
            for index in range(len(corpus) - corpus.extra):
                writer.add_reference(index)
                pairs += 1
        if settings.translates:
            hypotheses = _translate(settings, corpus, work)
            for index in range(len(corpus)):
                hypothesis = hypotheses.get(index)
                if not hypothesis:  # the source is too long for the models, or the output empty
                    dropped += 1
                    continue
                writer.add_hypothesis(index, hypothesis)
                pairs += 1
                extra += index >= len(corpus) - corpus.extra
    if pairs == 0:
        raise UsageError(
            f"the ensemble translated no sentence of '{settings.subset}' (--subset): all are too "
            "long for the models, or all outputs are empty"
        )
    corpus.copy_rest(output)
    counts = {"pairs": pairs, "sentences": len(corpus), "dropped": dropped}
    if corpus.extra:
        counts["extra_pairs"] = extra  # the last ones
    write_text(
        output / MANIFEST, json.dumps({"made_of": made_of, "counts": counts}, indent=2) + "\n"
    )
    os.replace(output, destdir)
    shutil.rmtree(work)
    tqdm.write(
        f"{destdir}: {pairs:,} pairs from {len(corpus):,} sentences"
        + (f", {extra:,} of extra sources" if corpus.extra else "")
        + (f", {dropped:,} without translation dropped" if dropped else "")
    )


def _translate_shard(
    settings: TransferSettings, corpus: Corpus, made_of: Dict[str, Any], shard: Tuple[int, int]
) -> None:
    work = _work(settings.destdir)
    _prepare_work(work, made_of)
    _translate(settings, corpus, work, shard)
    tqdm.write(
        f"{work}: shard {shard[0]} of {shard[1]} is complete; after the others, the same command "
        "without --shard-id joins them"
    )


def _translate(
    settings: TransferSettings, corpus: Corpus, work: Path, shard: Optional[Tuple[int, int]] = None
) -> Dict[int, str]:
    # fairseq-generate fails for a part without batches
    most = corpus.tokens() // settings.max_tokens
    parts = max(1, min(settings.num_shards * settings.workers, most))
    data, own = work / "data", range(parts)
    if shard is not None:
        data, own = work / f"data-{shard[0]}-of-{shard[1]}", own[shard[0] :: shard[1]]
    corpus.stage(_empty(data))
    return translate(settings, corpus, data, work, parts, own)


def _check(settings: TransferSettings) -> None:
    if not settings.data.is_dir():
        raise UsageError(
            f"data folder {settings.data} does not exist: give the data that the ensemble was "
            "trained on, one folder at a time"
        )
    require_subset_name(settings.subset, "--subset")
    for folder in settings.extra_sources:
        if not folder.is_dir():
            raise UsageError(f"folder {folder} of --extra-source does not exist")
    if settings.extra_sources and not settings.translates:
        raise UsageError(
            "--extra-source adds sources for the ensemble to label: give --targets ensemble or both"
        )
    if settings.share is not None:
        if not settings.extra_sources:
            raise UsageError("--share is a share of extra sources: give --extra-source, too")
        if not 0 < settings.share < 1:
            raise UsageError(f"--share {settings.share:g} is not between 0 and 1")
    require_files(settings.checkpoints, "--path")


def _keep_share(settings: TransferSettings, corpus: Corpus, share: float) -> None:
    own = len(corpus) - corpus.extra
    count = round(own * share / (1 - share))
    if count > corpus.extra:
        raise UsageError(
            f"--share {share:g} needs {count:,} extra sources for the {own:,} of {settings.data}, "
            f"and there are {corpus.extra:,}, a share of {corpus.extra / len(corpus):.3f}: give "
            "more of them, or a smaller share"
        )
    corpus.keep_extra(count)


def _corpus(settings: TransferSettings) -> Corpus:
    """Open the subset as the kind of data that the folder's files show."""
    data, subset, extra = settings.data, settings.subset, settings.extra_sources
    if (data / settings.config_yaml).is_file():
        return ManifestCorpus(data, subset, settings.config_yaml, extra)
    if (data / "dict.txt").is_file() and any(data.glob("*.json")):
        if extra:
            raise UsageError(
                f"--extra-source does not read the lists of {data}: add the utterances to a copy "
                f"of {subset}.json"
            )
        return UtteranceListCorpus(data, subset)
    if any(data.glob("*.tsv")) and not any(data.glob("*.idx")):
        raise UsageError(
            f"{data} holds manifests and no {settings.config_yaml}: give the name of their "
            "configuration with --config-yaml"
        )
    return SentencePairCorpus(data, subset, *languages(settings), extra)


def _made_of(settings: TransferSettings, corpus: Corpus, options: Dict[str, Any]) -> Dict[str, Any]:
    """Describe everything that the set depends on, as JSON."""
    made_of: Dict[str, Any] = {
        "targets": settings.targets,
        "data": corpus.made_of(settings.translates),
    }
    if settings.share is not None:
        made_of["share"] = settings.share
    if settings.translates:
        made_of["checkpoints"] = checkpoints_sha256(settings.checkpoints)
        made_of["beam"] = settings.beam
        made_of["options"] = options
    described: Dict[str, Any] = json.loads(json.dumps(made_of))
    return described


def _require_complete(destdir: Path, made_of: Dict[str, Any]) -> None:
    """Raise :class:`UsageError` unless a folder is the complete set."""
    advice = "remove it or give another --destdir"
    manifest = destdir / MANIFEST
    if not manifest.is_file():
        raise UsageError(f"{destdir} exists and is no transfer set: {advice}")
    found = _read_made_of(manifest, advice, "made_of")
    differing = differences(made_of, found)
    if differing:
        raise UsageError(
            f"{destdir} exists and is not this transfer set: it differs in "
            f"{', '.join(differing)}; {advice}"
        )


def _work(destdir: Path) -> Path:
    """Return the folder of an unfinished set."""
    return destdir.with_name(destdir.name + ".partial")


def _remove_leftovers(destdir: Path, made_of: Dict[str, Any]) -> None:
    """Remove the working folder of a command that was killed when the set was complete."""
    work = _work(destdir)
    if (work / _SETTINGS).is_file() and _read_made_of(
        work / _SETTINGS, "remove it", None
    ) == made_of:
        with lock_file(destdir):
            shutil.rmtree(work, ignore_errors=True)


def _prepare_work(work: Path, made_of: Dict[str, Any]) -> None:
    """Create the working folder; keep the parts of an interrupted run for the same set."""
    note = work / _SETTINGS
    if note.is_file():
        advice = "remove it or give another --destdir"
        differing = differences(made_of, _read_made_of(note, advice, None))
        if differing and has_finished_part(work):
            raise UsageError(
                f"{work} holds the interrupted run of another set, which differs in "
                f"{', '.join(differing)}: {advice}"
            )
        if differing:  # nothing is lost
            write_text(note, json.dumps(made_of) + "\n")
    elif work.exists() and not work.is_dir():
        raise UsageError(f"{work} is a file, but the command needs a folder of this name: move it")
    # a killed command may leave temporary files
    elif work.exists() and any(path.suffix != ".tmp" for path in work.iterdir()):
        raise UsageError(f"{work} exists and is no interrupted run: move it")
    else:
        work.mkdir(parents=True, exist_ok=True)
        write_text(note, json.dumps(made_of) + "\n")


def _read_made_of(path: Path, advice: str, key: Optional[str]) -> Dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if key is not None:
            value = value[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UsageError(
            f"{path} is damaged or of another version: {advice.replace('it', str(path.parent), 1)}"
        )
    return value


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
