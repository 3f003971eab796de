"""``distill_speech_to_text``: fairseq's S2T with an ensemble to distil."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq.data.audio.data_cfg import S2TDataConfig
from fairseq.tasks import register_task
from fairseq.tasks.speech_to_text import SpeechToTextTask
from omegaconf import DictConfig

from ..errors import UsageError
from ..speech.augmentation import manifest_datasets
from ..speech.inputs import Expected
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
        try:
            data = S2TDataConfig(path)
            vocabulary = path.parent / data.vocab_filename
        except Exception as error:  # fairseq and yaml raise many types
            raise UsageError(
                f"{path} cannot be read: {error}; give the folder of the manifests and, with "
                "--config-yaml, the configuration in it"
            ) from error
        if not vocabulary.is_file():
            raise UsageError(
                f"vocabulary {vocabulary} does not exist: see vocab_filename in {path}"
            )
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
        """Load a split, whose manifest and inputs must be complete."""
        try:
            super().load_dataset(split, *args, **kwargs)
        except KeyError as error:
            raise UsageError(
                f"manifest {split}.tsv in {self.cfg.data} lacks the column {error}: it needs id, "
                "audio, n_frames and tgt_text"
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"subset '{split}' of {self.cfg.data}: {error}") from error
        for part in manifest_datasets(self.dataset(split)):
            manifest = os.path.join(self.cfg.data, f"{part.split}.tsv")
            self._check_inputs(manifest, part.ids, part.audio_paths, part.tgt_texts)


@register_task("distill_speech_to_text", dataclass=DistillSpeechToTextConfig)
class DistillSpeechToTextTask(DistillationTaskMixin, ManifestTable, SpeechToTextTask):
    """Speech recognition or translation with a teacher and with the uncertainty of hypotheses."""
