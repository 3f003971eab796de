"""Summary of a run: the values of its records that tables and plots need."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Tuple

import numpy as np

from ..errors import UsageError
from ..records import RecordSet, read_records
from .layout import NLL, NLL_ENSEMBLE, OOD_PREFIX, TEST, is_used
from .ood import check_same_measures, log_copies
from .quality import Metric, corpus_quality, negative_log_likelihood
from .scores import Combination, combine
from .sentences import Sentences, sentences_of


@dataclass(frozen=True)
class Style:
    """Settings of a table or a report.

    Attributes:
        metric: metric of quality.
        measures: measures that detect each out-of-domain set.
        combination: rule for n-best lists.
        temperature: temperature of a weighted combination.
    """

    metric: Metric
    measures: Tuple[str, ...]
    combination: Combination = Combination.best
    temperature: float = 1.0


# the paper's Tables 4 and 3
TRANSLATION = Style(Metric.bleu, ("total", "rmi"))
SPEECH = Style(Metric.wer, ("total", "rmi", "mutual_information", "epkl"))


class RunSummary:
    """Sentence-level values of a run, collected set by set.

    Args:
        folder: folder of the run's records.
        test: all hypotheses of the test set.
        style: settings.

    Attributes:
        folder: folder of the run's records.
        quality: quality of the best hypotheses of the test set.
        likelihoods: negative log-likelihood by set of scored references, nats per token.
        inside: ``[S]`` by measure, of the test set; n-best lists are combined.
        outside: the same by out-of-domain set.
        nbest: size of the longest n-best list, by file that detection reads.
        sentences: sentences by set.

    Raises:
        UsageError: a reference is missing, or the model has no measure.
    """

    def __init__(self, folder: Path, test: RecordSet, style: Style) -> None:
        self.folder = folder
        self._style = style
        self.quality = corpus_quality(test.best(), style.metric)
        self.likelihoods: Dict[str, float] = {}
        self.inside = combine(test, style.combination, style.temperature)
        self.outside: Dict[str, Dict[str, np.ndarray]] = {}
        self.nbest: Dict[Path, int] = {self._path(TEST): test.nbest}
        self.sentences: Dict[str, Sentences] = {}
        self._add_sentences(TEST, test)

    def add(self, name: str, records: RecordSet) -> None:
        """Add another set; one that is neither out-of-domain nor scored references is ignored.

        Raises:
            UsageError: the likelihood of a set is zero, or it has other measures than the test set.
        """
        if name in (NLL, NLL_ENSEMBLE):
            self.likelihoods[name] = negative_log_likelihood(records.best())
        elif name.startswith(OOD_PREFIX):
            values = combine(records, self._style.combination, self._style.temperature)
            try:
                check_same_measures(self.inside, values)
            except UsageError as error:
                raise UsageError(f"{self._path(TEST)} and {self._path(name)}: {error}") from error
            log_copies(self._path(TEST), self._path(name), self.inside, values)
            self.outside[name] = values
            self.nbest[self._path(name)] = records.nbest
        else:
            return
        self._add_sentences(name, records)

    def _add_sentences(self, name: str, records: RecordSet) -> None:
        self.sentences[name] = sentences_of(self._path(name), records)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


def summarise_run(folder: Path, sets: Iterable[str], style: Style) -> RunSummary:
    """Read the records of a run and summarise them.

    Args:
        folder: folder of the run's records.
        sets: names of the sets there.
        style: settings.

    Raises:
        UsageError: a file holds no records, or a reference is missing.
    """
    summary = RunSummary(folder, read_records(folder / f"{TEST}.jsonl", token_ranks=0), style)
    for name in sets:
        if name != TEST and is_used(name):
            summary.add(name, read_records(folder / f"{name}.jsonl", token_ranks=0))
    return summary
