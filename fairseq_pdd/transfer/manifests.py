"""Speech corpora: manifest tables of ``speech_to_text``, lists of ``speech_recognition``."""

import csv
import json
from pathlib import Path
from typing import Any, Dict, List

from fairseq.data import Dictionary
from fairseq.data.data_utils import post_process

from ..errors import UsageError
from ..speech.examples import import_speech_recognition
from .corpus import Corpus, CorpusWriter, link_files


class _SpeechCorpus(Corpus):
    """Common part of both kinds: one manifest per subset, which lists inputs that stay in place.

    Args:
        data: folder of the manifests.
        subset: name of the subset.

    Raises:
        UsageError: the manifest does not exist, or fairseq cannot read it.
    """

    suffix: str
    """Ending of a manifest's file name."""

    def __init__(self, data: Path, subset: str) -> None:
        self.data, self.path = data, data / f"{subset}{self.suffix}"
        if not self.path.is_file():
            raise UsageError(f"manifest {self.path} does not exist: check --subset")
        try:
            self._read()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"manifest {self.path} cannot be read by fairseq: {type(error).__name__}: {error}"
            ) from error

    def _read(self) -> None:
        raise NotImplementedError

    def link_rest(self, folder: Path) -> None:
        """Link dictionaries, configuration and held-out manifests, but no features."""

        def wanted(name: str) -> bool:
            training = name.startswith("train") and name.endswith(self.suffix)
            return not training and not name.endswith(".zip")

        link_files(self.data, folder, wanted)


class ManifestCorpus(_SpeechCorpus):
    """Manifest table of fairseq's S2T task.

    Args:
        data: folder of the manifests.
        subset: name of the subset.
        config_yaml: name of the data configuration in the folder.
    """

    suffix = ".tsv"
    hypothesis_lines = "D"  # the table holds text, which training tokenises

    def __init__(self, data: Path, subset: str, config_yaml: str) -> None:
        self.generate_args = ["--task", "speech_to_text", "--config-yaml", config_yaml]
        super().__init__(data, subset)

    def _read(self) -> None:
        with open(self.path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, **_TABLE)
            self.rows: List[Dict[str, str]] = list(reader)
            self.columns = list(reader.fieldnames or [])
        self._frames = sum(int(row["n_frames"]) for row in self.rows)
        if "tgt_text" not in self.columns:
            raise KeyError("tgt_text")

    def __len__(self) -> int:
        return len(self.rows)

    def tokens(self) -> int:
        """Return the number of frames."""
        return self._frames

    def writer(self, folder: Path) -> "_TableWriter":
        """Begin ``train.tsv`` in a folder."""
        return _TableWriter(self, folder / "train.tsv")


# format of fairseq's own reader
_TABLE: Dict[str, Any] = {
    "delimiter": "\t",
    "quotechar": None,
    "doublequote": False,
    "lineterminator": "\n",
    "quoting": csv.QUOTE_NONE,
}


class _TableWriter(CorpusWriter):
    def __init__(self, corpus: ManifestCorpus, path: Path) -> None:
        self._rows = corpus.rows
        self._stream = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115
        self._table = csv.DictWriter(self._stream, corpus.columns, **_TABLE)
        self._table.writeheader()

    def add_reference(self, index: int) -> None:
        self._table.writerow(self._rows[index])

    def add_hypothesis(self, index: int, hypothesis: str) -> None:
        self._table.writerow({**self._rows[index], "tgt_text": hypothesis})

    def close(self) -> None:
        self._stream.close()


class UtteranceListCorpus(_SpeechCorpus):
    """JSON list of the ``speech_recognition`` example."""

    suffix = ".json"
    hypothesis_lines = "H"
    # The example's own task reads audio with functions that torchaudio removed. Ours also scores
    # hypotheses, which takes a small part of the decoding time.
    generate_args = ["--task", "distill_speech_recognition"]  # noqa: RUF012

    def _read(self) -> None:
        self.dictionary = Dictionary.load(str(self.data / "dict.txt"))
        example = import_speech_recognition().tasks.speech_recognition
        dataset = example.get_asr_dataset_from_json(str(self.path), self.dictionary)
        utterances = json.loads(self.path.read_text(encoding="utf-8"))["utts"]
        self.names: List[str] = dataset.ids
        self.utterances: List[Dict[str, Any]] = [utterances[name] for name in self.names]
        self._frames = sum(dataset.frame_sizes)

    def __len__(self) -> int:
        return len(self.names)

    def tokens(self) -> int:
        """Return the number of frames."""
        return self._frames

    def writer(self, folder: Path) -> "_ListWriter":
        """Begin ``train.json`` in a folder."""
        return _ListWriter(self, folder / "train.json")


class _ListWriter(CorpusWriter):
    def __init__(self, corpus: UtteranceListCorpus, path: Path) -> None:
        self._corpus, self._path = corpus, path
        self._utterances: Dict[str, Any] = {}

    def add_reference(self, index: int) -> None:
        self._add(index, self._corpus.utterances[index])

    def add_hypothesis(self, index: int, hypothesis: str) -> None:
        ids = self._corpus.dictionary.encode_line(
            hypothesis, append_eos=False, add_if_not_exist=False
        )
        output = {
            "text": post_process(hypothesis, "sentencepiece"),
            "token": hypothesis,
            "tokenid": ", ".join(map(str, ids.tolist())),
        }
        self._add(index, {**self._corpus.utterances[index], "output": output})

    def _add(self, index: int, utterance: Dict[str, Any]) -> None:
        name = self._corpus.names[index]
        # with --targets both, the ensemble's output is the second entry of an utterance
        self._utterances[f"{name}-ensemble" if name in self._utterances else name] = utterance

    def close(self) -> None:
        text = json.dumps({"utts": self._utterances}, ensure_ascii=False, indent=1)
        self._path.write_text(text + "\n", encoding="utf-8")
