"""Check of an ensemble's members before they translate."""

from typing import Optional, Tuple

from fairseq import tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from ..checkpoints.fit import check_fit, check_members, languages_of
from ..checkpoints.reading import map_checkpoint
from ..errors import UsageError
from .corpus import Corpus
from .options import own_args, parse
from .pairs import infer_languages
from .settings import TransferSettings


def languages(settings: TransferSettings) -> Tuple[str, str]:
    """Return source and target language: those of the options, or of the first member.

    Raises:
        UsageError: they are not known, or the same.
    """
    given = settings.source_lang, settings.target_lang
    found: Optional[Tuple[str, str]] = None
    if None in given:
        found = languages_of(settings.checkpoints[0]) or infer_languages(settings.data)
        if found is None:
            raise UsageError(
                f"{settings.data} holds no binarised text to infer the languages from: give "
                "--source-lang and --target-lang"
            )
    source, target = (own or other for own, other in zip(given, found or given))
    assert source is not None
    assert target is not None
    if source == target:
        raise UsageError(
            f"source and target language are both '{source}': give --source-lang and --target-lang"
        )
    return source, target


def require_fit(settings: TransferSettings, corpus: Corpus) -> None:
    """Require that all members are intact and were trained for such data.

    Raises:
        UsageError: a file cannot be read safely, or its dictionaries, direction or features are
            others.
    """
    args = parse(own_args(settings, corpus, settings.data), "")
    task = tasks.setup_task(convert_namespace_to_omegaconf(args).task)
    states = [map_checkpoint(path) for path in settings.checkpoints]
    for path, state in zip(settings.checkpoints, states):
        check_fit(path, task, state)
    check_members(settings.checkpoints, states)
