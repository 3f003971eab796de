"""fairseq's ``examples/speech_recognition``, imported from the folder of the installed fairseq.

Only speech recognition needs the example, so it is imported on demand.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Iterable

import fairseq

from .._requirements import require_extra
from ..errors import UsageError

_NAME = "examples.speech_recognition"
# parts of the names of the example's tasks, ours included, and of its models
_REGISTERED = ("speech_recognition", "vggtransformer", "w2l_conv_glu_enc")


def import_if_named(words: Iterable[str]) -> bool:
    """Import the example if a word contains the name of one of its tasks or models.

    Args:
        words: arguments of a command, or names in a checkpoint's configuration.

    Returns:
        Whether the words name the example.

    Raises:
        UsageError: they do, and the example cannot be imported.
    """
    named = any(name in word for word in words for name in _REGISTERED)
    if named:
        import_speech_recognition()
    return named


def import_speech_recognition() -> ModuleType:
    """Import the example, which registers its models, criterions and task with fairseq.

    The modules of the example import one another as ``examples.speech_recognition…``. That name
    is importable from a checkout of fairseq only, so it is defined here.

    Raises:
        UsageError: this fairseq has no such example, a package of the extra ``speech`` is not
            installed, or the example cannot be imported.
    """
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = Path(fairseq.__file__).parent
    # beside the package in a checkout that was installed with `pip install --editable`
    folders = [package / "examples", package.parent / "examples"]
    folder = next(
        (f for f in folders if (f / "speech_recognition" / "__init__.py").is_file()), None
    )
    if folder is None:
        raise UsageError(
            f"fairseq in {package} has no examples/speech_recognition, which defines "
            "vggtransformer: install a fairseq with examples (pip install fairseq-fixed), or use "
            "--task distill_speech_to_text"
        )
    require_extra("speech", "examples/speech_recognition of fairseq")
    try:
        return _import_from(folder)
    except Exception as error:  # depends on what else is installed
        raise UsageError(
            f"{folder / 'speech_recognition'} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _import_from(folder: Path) -> ModuleType:
    """Import the example with ``folder`` as the package ``examples``.

    The parent folder is not added to ``sys.path``, since it has modules called ``logging`` and
    ``tokenizer``. Other packages called ``examples`` stay importable.
    """
    module = sys.modules.get("examples")
    if module is None:
        spec = importlib.util.find_spec("examples")
        others = list((spec and spec.submodule_search_locations) or [])
        module = sys.modules["examples"] = ModuleType("examples")
    else:
        others = list(getattr(module, "__path__", []))
    module.__path__ = [str(folder)]
    try:
        return importlib.import_module(_NAME)
    finally:
        module.__path__ = [*others, str(folder)]
