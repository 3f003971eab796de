"""``distill_speech_recognition``: the task of fairseq's example, with an ensemble to distil.

The example, ``examples/speech_recognition``, also defines the architectures ``vggtransformer_*``.
It is imported when it is needed; the task itself is in ``_speech_recognition.py``.
"""

import logging
import sys
from dataclasses import dataclass, field
from typing import Any

from fairseq.tasks import FairseqTask, register_task
from omegaconf import DictConfig

from ..errors import MissingRequirement, UsageError
from ..speech.examples import import_if_named
from ._distillation import DistillationConfig
from ._speech import SpeechConfig

logger = logging.getLogger(__name__)


@dataclass
class DistillSpeechRecognitionConfig(DistillationConfig, SpeechConfig):
    """Options of ``distill_speech_recognition``: those of the example's task and the teacher's."""

    max_source_positions: int = field(
        default=sys.maxsize, metadata={"help": "max number of frames of an utterance"}
    )


@register_task("distill_speech_recognition", dataclass=DistillSpeechRecognitionConfig)
class DistillSpeechRecognitionTask(FairseqTask):
    """Entry of the task in fairseq's registry, which does not import the example by itself."""

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs: Any) -> FairseqTask:
        """Import the example and set up its task with a teacher.

        Raises:
            UsageError: the example cannot be imported, or the data is incomplete.
        """
        from ._speech_recognition import ExampleSpeechRecognitionTask

        return ExampleSpeechRecognitionTask.setup_task(cfg, **kwargs)


# fairseq compares --arch and --task with its registries before it sets up a task. It looks for
# --user-dir in the arguments of the process in the same way.
try:
    import_if_named(sys.argv[1:])
except UsageError as error:
    values = {word.rpartition("=")[2] for word in sys.argv[1:]}
    if isinstance(error, MissingRequirement) and "distill_speech_recognition" in values:
        raise  # else fairseq would list its architectures
    logger.warning("no --arch vggtransformer_*: %s", error.message)
