"""From binarised data and an ensemble to binarised data with the ensemble's translations."""

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Optional, Tuple

import numpy as np
import torch
from fairseq.data import Dictionary, data_utils, indexed_dataset
from tqdm import tqdm

from ..errors import UsageError
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
    beam: int
    max_tokens: int
    workers: int
    generate_args: Tuple[str, ...]

    @property
    def pair(self) -> str:
        """Language pair as in fairseq's file names."""
        return f"{self.source_lang}-{self.target_lang}"

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
    settings = _with_languages(settings)
    _check(settings)
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

    source_dict = Dictionary.load(str(settings.data / f"dict.{settings.source_lang}.txt"))
    target_dict = Dictionary.load(str(settings.data / f"dict.{settings.target_lang}.txt"))
    prefix = str(settings.data / f"{settings.subset}.{settings.pair}")
    sources = data_utils.load_indexed_dataset(f"{prefix}.{settings.source_lang}", source_dict)
    references = data_utils.load_indexed_dataset(f"{prefix}.{settings.target_lang}", target_dict)

    pairs = 0
    dropped = 0
    output = work / "set"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    with _Writer(output, settings, source_dict, target_dict) as writer:
        if settings.targets in ("reference", "both"):
            for source, reference in zip(_items(sources), _items(references)):
                writer.add(source, reference)
                pairs += 1
        if settings.targets in ("ensemble", "both"):
            # fairseq-generate fails on a part without a single batch
            tokens = int(np.maximum(sources.sizes, references.sizes).sum())
            workers = max(1, min(settings.workers, tokens // settings.max_tokens))
            translations = translate(replace(settings, workers=workers), work, len(sources))
            for index in range(len(sources)):
                symbols = translations.get(index)
                if not symbols:  # too long for the models, or an empty output
                    dropped += 1
                    continue
                writer.add(sources[index], _encode(target_dict, symbols))
                pairs += 1
    if pairs == 0:
        raise UsageError(f"the ensemble translated no sentence of '{settings.subset}'")
    _link_other_files(settings, output)
    counts = {"pairs": pairs, "sentences": len(sources), "dropped": dropped}
    manifest_text = json.dumps({"settings": fingerprint, "counts": counts}, indent=2)
    (output / MANIFEST).write_text(manifest_text + "\n")
    os.replace(output, destdir)
    shutil.rmtree(work)
    tqdm.write(
        f"{destdir}: {pairs:,} pairs from {len(sources):,} sentences"
        + (f", {dropped:,} without translation dropped" if dropped else "")
    )


def _with_languages(settings: TransferSettings) -> TransferSettings:
    if not settings.data.is_dir():
        raise UsageError(
            f"data folder {settings.data} does not exist: give the --destdir of fairseq-preprocess"
        )
    if settings.source_lang and settings.target_lang:
        return settings
    source, target = data_utils.infer_language_pair(str(settings.data))
    if source is None or target is None:
        raise UsageError(
            f"{settings.data} holds no binarised text to infer the languages from: give "
            "--source-lang and --target-lang"
        )
    return replace(settings, source_lang=source, target_lang=target)


def _check(settings: TransferSettings) -> None:
    missing = [path for path in settings.checkpoints if not os.path.isfile(path)]
    if missing:
        raise UsageError(f"checkpoint not found: {', '.join(missing)} (--path a.pt:b.pt)")
    for language in (settings.source_lang, settings.target_lang):
        for name in (f"dict.{language}.txt", f"{settings.subset}.{settings.pair}.{language}.idx"):
            if not (settings.data / name).is_file():
                raise UsageError(
                    f"{settings.data / name} does not exist: check --subset and the languages"
                )


def _prepare_work(work: Path, fingerprint: Dict[str, Any]) -> None:
    """Keep what an interrupted run with the same settings has left, nothing else."""
    note = work / "settings.json"
    if note.is_file() and json.loads(note.read_text()) != fingerprint:
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(fingerprint))


def _items(dataset: Any) -> Iterator[torch.Tensor]:
    return (dataset[i] for i in range(len(dataset)))


def _encode(dictionary: Dictionary, symbols: str) -> torch.Tensor:
    return dictionary.encode_line(symbols, append_eos=True, add_if_not_exist=False)


class _Writer:
    """Two indexed datasets, source and target, side by side."""

    def __init__(
        self, folder: Path, settings: TransferSettings, source: Dictionary, target: Dictionary
    ) -> None:
        languages: Iterable[Tuple[Optional[str], Dictionary]] = (
            (settings.source_lang, source),
            (settings.target_lang, target),
        )
        self._prefixes = [str(folder / f"train.{settings.pair}.{name}") for name, _ in languages]
        self._builders = [
            indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(dictionary))
            for prefix, (_, dictionary) in zip(self._prefixes, languages)
        ]

    def add(self, source: torch.Tensor, target: torch.Tensor) -> None:
        for builder, item in zip(self._builders, (source, target)):
            builder.add_item(item)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        for builder, prefix in zip(self._builders, self._prefixes):
            builder.finalize(f"{prefix}.idx")


def _link_other_files(settings: TransferSettings, output: Path) -> None:
    """Dictionaries and the other subsets; links, since validation data can be large."""
    for path in sorted(settings.data.iterdir()):
        name = path.name
        held_out = f".{settings.pair}." in name and not name.startswith("train.")
        if path.is_file() and (held_out or name.startswith("dict.")):
            try:
                os.link(path.resolve(), output / name)
            except OSError:  # another file system
                shutil.copyfile(path, output / name)
