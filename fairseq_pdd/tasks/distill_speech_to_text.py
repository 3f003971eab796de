"""``distill_speech_to_text``: fairseq's S2T with an ensemble to distil."""

import os
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, List

from fairseq.tasks import register_task
from fairseq.tasks.speech_to_text import SpeechToTextTask
from omegaconf import DictConfig

from ..errors import UsageError
from ..speech.augmentation import manifest_datasets
from ..speech.config import check_transforms, read_config
from ..speech.inputs import Expected
from ..speech.manifests import one_line, read_dictionary, read_table
from ..speech.utterances import Utterances, named
from ._distillation import DistillationConfig, DistillationTaskMixin
from ._speech import Speech, SpeechConfig


@dataclass
class DistillSpeechToTextConfig(DistillationConfig, SpeechConfig):
    """Options of ``distill_speech_to_text``: those of ``speech_to_text`` and the teacher's."""

    config_yaml: str = field(
        default="config.yaml", metadata={"help": "data configuration in the manifests' folder"}
    )


class ManifestTable(Speech):
    """Checks of S2T manifests, tab-separated tables beside a config yaml."""

    @classmethod
    def require_data(cls, cfg: DictConfig) -> None:
        """Raise :class:`UsageError` if the config yaml or the vocabulary cannot be read, or if
        the configuration asks for language tags.
        """
        path = Path(cfg.data or "") / cfg.config_yaml
        data = read_config(path)
        read_dictionary(path.parent / data.vocab_filename, f"see vocab_filename in {path}")
        speakers = data.speaker_set_filename
        if speakers is not None and not (path.parent / str(speakers)).is_file():
            raise UsageError(f"{path}: speaker_set_filename {speakers} does not exist: fix it")
        if data.prepend_tgt_lang_tag or data.prepend_bos_and_append_tgt_lang_tag:
            raise UsageError(
                f"{path} asks for language tags in the target, which are not supported: remove "
                "prepend_tgt_lang_tag and prepend_bos_and_append_tgt_lang_tag"
            )
        for subset in str(cfg.train_subset).split(","):
            if not subset.startswith("train"):
                raise UsageError(
                    f"--train-subset {cfg.train_subset}: fairseq augments and shuffles only "
                    f"subsets whose name starts with 'train', so not '{subset}': rename its "
                    "manifest"
                )

    @property
    def expected(self) -> Expected:
        """Features that the config yaml describes, or waveforms."""
        data = self.data_cfg
        waveform = data.use_audio_input
        return Expected(
            dimension=None if waveform else data.input_feat_per_channel * data.input_channels,
            sample_rate=None if waveform else data.sample_rate,
            through_sox=True,
        )

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        """Load a split, whose manifests and inputs must be complete."""
        for name in split.split(","):
            self._check_manifest(name)
        config = Path(self.cfg.data) / self.cfg.config_yaml
        try:
            super().load_dataset(split, *args, **kwargs)
        except Exception as error:  # each transform raises its own types
            raise UsageError(
                f"subset '{split}' cannot be loaded as {config} asks for: {one_line(error)}"
            ) from error
        for part in manifest_datasets(self.dataset(split)):
            manifest = os.path.join(self.cfg.data, f"{part.split}.tsv")
            frames = repeat(None) if self.data_cfg.use_audio_input else part.n_frames
            self._check_inputs(manifest, part.ids, part.audio_paths, part.tgt_texts, frames)
            if self.feature_dim is not None:
                check_transforms(config, part, self.feature_dim)
        self.datasets[split] = named(self.dataset(split))

    def _check_manifest(self, name: str) -> None:
        path = os.path.join(self.cfg.data, f"{name}.tsv")
        table = read_table(path)
        if self.speaker_to_id is None:
            return
        unknown = {row.get("speaker", "") for row in table.rows} - set(self.speaker_to_id)
        if unknown:
            raise UsageError(
                f"{path}: speaker '{min(unknown)}' is not in speaker_set_filename of the config "
                "yaml: fix one of them"
            )

    def get_interactive_tokens_and_lengths(self, lines: List[str], encode_fn: Any) -> Any:
        """Check the files that lines of fairseq-interactive name, and read their lengths."""
        names = [f"in line {number} of this input" for number in range(1, len(lines) + 1)]
        self._check_inputs("fairseq-interactive", names, lines, repeat(None), repeat(None))
        return super().get_interactive_tokens_and_lengths(lines, encode_fn)

    def build_dataset_for_inference(self, src_tokens: Any, src_lengths: Any, **kwargs: Any) -> Any:
        """Build fairseq's data set of files, whose features are checked when they are read."""
        dataset = super().build_dataset_for_inference(src_tokens, src_lengths, **kwargs)
        return Utterances(dataset, src_tokens)


@register_task("distill_speech_to_text", dataclass=DistillSpeechToTextConfig)
class DistillSpeechToTextTask(DistillationTaskMixin, ManifestTable, SpeechToTextTask):
    """Speech recognition or translation with a teacher and with the uncertainty of hypotheses."""
