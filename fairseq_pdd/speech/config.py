"""Check of the config yaml of ``speech_to_text``."""

from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Tuple, Type

import numpy as np
from fairseq.data import encoders
from fairseq.data.audio.data_cfg import S2TDataConfig
from fairseq.data.audio.feature_transforms.delta_deltas import DeltaDeltas
from fairseq.data.audio.feature_transforms.global_cmvn import GlobalCMVN
from fairseq.data.audio.speech_to_text_dataset import SpeechToTextDataset

from .._compat import FEATURE_TRANSFORMS
from ..errors import UsageError
from .augmentation import TRANSFORMS
from .manifests import one_line

__all__ = ["FEATURE_TRANSFORMS", "check_transforms", "read_config"]

_TYPES: Dict[str, Tuple[Type[Any], ...]] = {
    "vocab_filename": (str,),
    "audio_root": (str,),
    "input_feat_per_channel": (int,),
    "input_channels": (int,),
    "sample_rate": (int,),
    "use_sample_rate": (int,),
    "use_audio_input": (bool,),
    "standardize_audio": (bool,),
    "shuffle": (bool,),
    "sampling_alpha": (int, float),
    "prepend_tgt_lang_tag": (bool,),
    "prepend_bos_and_append_tgt_lang_tag": (bool,),
    "pre_tokenizer": (dict,),
    "bpe_tokenizer": (dict,),
    "transforms": (dict,),
    "feature_transforms": (dict,),
    "waveform_transforms": (dict,),
    "dataset_transforms": (dict,),
}


def read_config(path: Path) -> S2TDataConfig:
    """Read a config yaml, and build its tokenizers once.

    Raises:
        UsageError: the file cannot be read, an entry has a wrong type, or a tokenizer cannot be
            built.
    """
    try:
        config = S2TDataConfig(path)
    except Exception as error:  # fairseq and yaml raise many types
        raise UsageError(
            f"{path} cannot be read: {one_line(error)}; give the folder of the manifests and, "
            "with --config-yaml, the configuration in it"
        ) from error
    if not isinstance(config.config, dict):
        raise UsageError(
            f"{path} holds no 'name: value' lines: give a configuration of fairseq's "
            "speech_to_text with --config-yaml"
        )
    for name, kinds in _TYPES.items():
        if name in config.config:
            _check_type(path, name, config.config[name], kinds)
    if FEATURE_TRANSFORMS not in TRANSFORMS:
        for name in TRANSFORMS:
            if name in config.config:
                raise UsageError(
                    f"{path}: this version of fairseq ignores {name}: for transforms of features "
                    f"write '{FEATURE_TRANSFORMS}'; it has no others"
                )
    for name, build in (
        ("pre_tokenizer", encoders.build_tokenizer),
        ("bpe_tokenizer", encoders.build_bpe),
    ):
        arguments = getattr(config, name)
        try:
            build(Namespace(**arguments))
        except Exception as error:  # each tokenizer raises its own types
            raise UsageError(
                f"{path}: {name} {arguments} cannot be built: {one_line(error)}"
            ) from error
    return config


def _check_type(path: Path, name: str, value: Any, kinds: Tuple[Type[Any], ...]) -> None:
    # bool is a subclass of int
    valid = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if valid and kinds[0] is int:
        valid = value > 0
    if not valid:
        expected = "int above 0" if kinds[0] is int and len(kinds) == 1 else kinds[-1].__name__
        raise UsageError(f"{path}: {name} is {str(value)[:80]!r} instead of {expected}: fix it")


def check_transforms(path: Path, manifest: SpeechToTextDataset, dimension: int) -> None:
    """Check the feature transforms of a data set: the statistics of ``global_cmvn``, and that the
    number of features does not change.

    Args:
        path: config yaml, for messages.
        manifest: data set of one manifest.
        dimension: number of features per frame.

    Raises:
        UsageError: the statistics do not fit the features, or would make them infinite or NaN;
            a transform adds features.
    """
    for transform in getattr(manifest.feature_transforms, "transforms", []):
        if isinstance(transform, DeltaDeltas):  # the model would get three times as many features
            raise UsageError(
                f"{path} asks for delta_deltas, which are not supported: remove them from the "
                "transforms, and store features that hold them"
            )
        if not isinstance(transform, GlobalCMVN):
            continue
        file, mean, std = transform.stats_npz_path, transform.mean, transform.std
        if np.shape(mean) != (dimension,) or np.shape(std) != (dimension,):
            raise UsageError(
                f"{file} (global_cmvn in {path}) holds statistics of shape {list(np.shape(mean))}, "
                f"frames have {dimension} features: compute them from these features"
            )
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise UsageError(
                f"{file} (global_cmvn in {path}) holds statistics that are NaN, infinite or a "
                "standard deviation of 0: compute them again"
            )
