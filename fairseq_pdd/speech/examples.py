"""fairseq's ``examples/speech_recognition``, imported from where fairseq itself is installed."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import fairseq

from ..errors import UsageError

_NAME = "examples.speech_recognition"


def import_speech_recognition() -> ModuleType:
    """Register the models, criterions and task of that example, once a process.

    Its modules import one another as ``examples.speech_recognition…``, a name that only a
    checkout of fairseq as the current folder would give them. Here the installed folder gives it.

    Raises:
        UsageError: this fairseq has no examples, or they do not work here.
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
            f"fairseq in {package} has no examples/speech_recognition, which holds "
            "vggtransformer: install a fairseq that has (pip install fairseq-fixed), or use "
            "--task distill_speech_to_text"
        )
    try:
        return _import_from(folder)
    except Exception as error:  # of other people's code, anything
        raise UsageError(
            f"{folder / 'speech_recognition'} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _import_from(folder: Path) -> ModuleType:
    """Import the example with ``examples`` meaning this folder.

    Not by ``sys.path``: fairseq's folder has modules called ``logging`` and ``tokenizer``. Whatever
    else is called ``examples`` stays importable.
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
