"""Speech corpora: manifest tables of ``speech_to_text``, lists of ``speech_recognition``."""

import csv
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

from fairseq.data.audio.audio_utils import FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS
from fairseq.data.data_utils import post_process

from ..errors import UsageError
from ..speech.config import read_config
from ..speech.examples import import_speech_recognition
from ..speech.manifests import TABLE_FORMAT, read_dictionary, read_list, read_table
from ..teacher.cache.content import files_sha256, inputs_sha256, referenced_files
from .corpus import GENERATED, Corpus, CorpusWriter, copy_files

# not copied; commands write the latter into the folder while they run
_INPUTS = {".zip", *FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS}
_TRANSIENT = {".lock", ".log"}


class _SpeechCorpus(Corpus):
    """Common part of both kinds: one manifest per subset, which lists inputs that stay in place.

    Args:
        data: folder of the manifests.
        subset: name of the subset.

    Raises:
        UsageError: the manifest does not exist or cannot be read.
    """

    suffix: str
    """Ending of a manifest's file name."""

    def __init__(self, data: Path, subset: str) -> None:
        self.data, self.path = data, data / f"{subset}{self.suffix}"
        if not self.path.is_file():
            raise UsageError(f"manifest {self.path} does not exist: check --subset")
        self._read()

    def _read(self) -> None:
        raise NotImplementedError

    def _inputs(self) -> List[str]:
        """Return the paths of audio or features, in order."""
        raise NotImplementedError

    def _referenced(self) -> Dict[str, Path]:
        """Return files outside the manifests on which text or features depend."""
        return {}

    @property
    def has_references(self) -> bool:
        """True: manifests have transcripts."""
        return True

    def made_of(self, translated: bool) -> Dict[str, Any]:
        """Describe manifest, configuration, held-out manifests and, if it is read, the audio."""
        files = {"manifest": self.path, **self._rest(), **self._referenced()}
        described: Dict[str, Any] = {"files": files_sha256(files, "reading data")}
        if translated:
            described["inputs"] = inputs_sha256(self._inputs())
        return described

    def stage(self, folder: Path) -> None:
        """Link the data folder's entries and, as the only manifest, that of this subset."""
        # fairseq augments subsets whose name starts with "train"
        for path in self.data.iterdir():
            if path.suffix != self.suffix:
                (folder / path.name).symlink_to(path.resolve())
        (folder / f"{GENERATED}{self.suffix}").symlink_to(self.path.resolve())

    def copy_rest(self, folder: Path) -> None:
        """Copy dictionaries, configuration and held-out manifests, but no features."""
        copy_files(self._rest(), folder)

    def _rest(self) -> Dict[str, Path]:
        def wanted(path: Path) -> bool:
            training = path.name.startswith("train") and path.suffix == self.suffix
            return path.is_file() and not training and path.suffix not in _INPUTS | _TRANSIENT

        return {path.name: path for path in sorted(self.data.iterdir()) if wanted(path)}


class ManifestCorpus(_SpeechCorpus):
    """Manifest table of fairseq's S2T task.

    Args:
        data: folder of the manifests.
        subset: name of the subset.
        config_yaml: name of the data configuration in the folder.
        extra_sources: folders whose manifest of the same name adds utterances; their configuration
            has the same name.

    Raises:
        UsageError: a manifest or a configuration cannot be read, or the manifests differ in their
            columns.
    """

    suffix = ".tsv"
    hypothesis_lines = "D"  # the table holds text, which training tokenises

    def __init__(
        self, data: Path, subset: str, config_yaml: str, extra_sources: Sequence[Path] = ()
    ) -> None:
        self.generate_args = ["--task", "distill_speech_to_text", "--config-yaml", config_yaml]
        self._config = read_config(data / config_yaml)
        self._others = [(folder, read_config(folder / config_yaml)) for folder in extra_sources]
        super().__init__(data, subset)

    def _read(self) -> None:
        self.columns, self.rows = read_table(self.path)
        own = len(self.rows)
        for folder, config in self._others:
            path = folder / self.path.name
            columns, rows = read_table(path)
            if columns != self.columns:
                raise UsageError(
                    f"{path} has the columns {', '.join(columns)} (--extra-source) and {self.path} "
                    f"{', '.join(self.columns)}: give both the same"
                )
            root = Path(config.audio_root).absolute()
            self.rows += [{**row, "audio": (root / row["audio"]).as_posix()} for row in rows]
        self.extra = len(self.rows) - own

    def __len__(self) -> int:
        return len(self.rows)

    def _select(self, indices: Sequence[int]) -> None:
        self.rows = [self.rows[i] for i in indices]

    def tokens(self) -> int:
        """Return the number of frames."""
        return sum(int(row["n_frames"]) for row in self.rows)

    def stage(self, folder: Path) -> None:
        """Link the data folder's entries, and write the manifest where there are other folders."""
        super().stage(folder)
        if self.extra:
            staged = folder / f"{GENERATED}{self.suffix}"
            staged.unlink()
            with open(staged, "w", encoding="utf-8", newline="") as stream:
                table = csv.DictWriter(stream, self.columns, **TABLE_FORMAT)
                table.writeheader()
                table.writerows(self.rows)

    def writer(self, folder: Path) -> "_TableWriter":
        """Begin ``train.tsv`` in a folder."""
        return _TableWriter(self, folder / "train.tsv")

    def _inputs(self) -> List[str]:
        root = Path(self._config.audio_root)
        return [(root / row["audio"]).as_posix() for row in self.rows]

    def _referenced(self) -> Dict[str, Path]:
        others = {
            f"extra source {k}": folder / self.path.name
            for k, (folder, _) in enumerate(self._others)
        }
        return {**referenced_files(self._config.config, self.data), **others}


class _TableWriter(CorpusWriter):
    def __init__(self, corpus: ManifestCorpus, path: Path) -> None:
        self._rows, self._manifest = corpus.rows, corpus.path
        self._stream = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115
        self._table = csv.DictWriter(self._stream, corpus.columns, **TABLE_FORMAT)
        self._table.writeheader()

    def add_reference(self, index: int) -> None:
        row = self._rows[index]
        if not row["tgt_text"].strip():
            raise UsageError(
                f"{self._manifest}: utterance {row['id']}: its transcript is empty; remove it from "
                "the manifest, or give --targets ensemble"
            )
        self._table.writerow(row)

    def add_hypothesis(self, index: int, hypothesis: str) -> None:
        self._table.writerow({**self._rows[index], "tgt_text": hypothesis})

    def close(self) -> None:
        self._stream.close()


class UtteranceListCorpus(_SpeechCorpus):
    """JSON list of the ``speech_recognition`` example."""

    suffix = ".json"
    hypothesis_lines = "H"
    generate_args = ["--task", "distill_speech_recognition"]  # noqa: RUF012

    def _read(self) -> None:
        self.dictionary = read_dictionary(
            self.data / "dict.txt", "give the data that the ensemble was trained on"
        )
        utterances = read_list(self.path, self.dictionary)
        example = import_speech_recognition().tasks.speech_recognition
        dataset = example.get_asr_dataset_from_json(str(self.path), self.dictionary)
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

    def _inputs(self) -> List[str]:
        return [utterance["input"]["path"] for utterance in self.utterances]


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
