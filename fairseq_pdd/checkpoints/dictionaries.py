"""Dictionaries of a task: their files and a short description."""

import hashlib
import os
from pathlib import Path
from typing import Any, Dict

from fairseq.data import Dictionary, data_utils
from fairseq.data.audio.data_cfg import S2TDataConfig


def dictionary_files(cfg: Any, data: str) -> Dict[str, str]:
    """Return the dictionary files by side, ``source`` and ``target``; they may not exist.

    Args:
        cfg: configuration of a translation or speech task, as in a checkpoint.
        data: the task's data folder.

    Raises:
        Exception: fairseq's own, for a config yaml that cannot be read.
    """
    if getattr(cfg, "config_yaml", None):  # speech_to_text
        vocabulary = S2TDataConfig(Path(data) / cfg.config_yaml).vocab_filename
        return {"target": os.path.join(data, vocabulary)}
    if not hasattr(cfg, "source_lang"):  # the speech_recognition of fairseq's examples
        return {"target": os.path.join(data, "dict.txt")}
    languages = cfg.source_lang, cfg.target_lang
    if None in languages:  # fairseq infers them in training, too
        languages = data_utils.infer_language_pair(data)
    return {
        side: os.path.join(data, f"dict.{language}.txt")
        for side, language in zip(("source", "target"), languages)
        if language is not None
    }


def describe_dictionary(dictionary: Dictionary) -> Dict[str, Any]:
    """Return the size and the checksum of a dictionary, as JSON."""
    text = "\n".join(dictionary.symbols).encode("utf-8", errors="surrogatepass")
    return {"symbols": len(dictionary), "sha256": hashlib.sha256(text).hexdigest()}


def describe_dictionaries(task: Any) -> Dict[str, Any]:
    """Describe the dictionaries that a task has, by side."""
    sides = {"source": task.source_dictionary, "target": task.target_dictionary}
    return {side: describe_dictionary(d) for side, d in sides.items() if d is not None}
