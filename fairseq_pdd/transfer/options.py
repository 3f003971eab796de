"""Options of fairseq-generate that a user may add to those of the command."""

import argparse
import math
import os
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Sequence

from fairseq import options

# fairseq's parser knows registered tasks only
from .. import tasks  # noqa: F401
from ..errors import UsageError
from ..teacher.cache.content import file_sha256
from .corpus import GENERATED, Corpus
from .settings import TransferSettings

# Results do not depend on these, except for rounding.
_COMPUTING = {
    "cpu", "num_workers", "data_buffer_size", "batch_size", "batch_size_valid",
    "required_seq_len_multiple", "num_batch_buckets", "empty_cache_freq", "log_interval",
    "log_format", "no_progress_bar", "max_tokens_valid",
}  # fmt: skip
# Results depend on these, so they are part of what a set was made of.
_SEARCH = {
    "max_len_a", "max_len_b", "min_len", "match_source_len", "unnormalized", "no_early_stop",
    "no_beamable_mm", "lenpen", "unkpen", "no_repeat_ngram_size", "sampling", "sampling_topk",
    "sampling_topp", "temperature", "diverse_beam_groups", "diverse_beam_strength",
    "diversity_rate", "lm_path", "lm_weight", "retain_dropout", "retain_dropout_modules", "seed",
    "no_seed_provided", "model_overrides", "max_source_positions", "max_target_positions",
    "left_pad_source", "left_pad_target", "fp16", "memory_efficient_fp16", "bf16",
    "memory_efficient_bf16", "tpu", "fp16_no_flatten_grads", "decoding_format",
    "iter_decode_eos_penalty", "iter_decode_max_iter", "iter_decode_force_max_iter",
}  # fmt: skip


def own_args(settings: TransferSettings, corpus: Corpus, data: Path) -> List[str]:
    """Return the arguments of fairseq-generate that all parts need."""
    return [
        # tasks of ours, as some of fairseq's cannot run with current PyTorch and torchaudio
        str(data), *corpus.generate_args, "--no-uncertainty",
        "--path", ":".join(settings.checkpoints),
        "--gen-subset", GENERATED,
        "--beam", str(settings.beam), "--nbest", "1", "--max-tokens", str(settings.max_tokens),
        "--skip-invalid-size-inputs-valid-test", "--no-progress-bar",
        # some versions of fairseq drop a last batch of another size
        "--required-batch-size-multiple", "1",
    ]  # fmt: skip


def search_options(settings: TransferSettings, corpus: Corpus) -> Dict[str, Any]:
    """Check the user's options for fairseq-generate.

    Returns:
        Values of those that results depend on, by name; files by their checksum.

    Raises:
        UsageError: fairseq-generate does not know an option, or the option would change what the
            command itself sets or the form of the output.
    """
    extra = list(settings.generate_args)
    if not extra:
        return {}
    given = " ".join(extra)
    # fairseq imports such a folder before it parses, and other tasks have other options
    for name in ("--user-dir", "--task"):
        if any(word.partition("=")[0] == name for word in extra):
            raise _refused(name, given)
    own = own_args(settings, corpus, settings.data)
    before, after = vars(parse(own, given)), vars(parse([*own, *extra], given))
    changed = {name: value for name, value in after.items() if before.get(name, ...) != value}
    refused = [name for name in changed if name not in _COMPUTING | _SEARCH]
    if refused:
        raise _refused(", ".join("--" + name.replace("_", "-") for name in refused), given)
    for name, value in changed.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} {value} is no number: give another value")
    if after["sampling"] and settings.beam != 1:
        raise UsageError("--sampling gives one sample per sentence: give --beam 1 with it")
    return {
        name: file_sha256(Path(value)) if os.path.isfile(str(value)) else value
        for name, value in changed.items()
        if name in _SEARCH
    }


def parse(args: Sequence[str], given: str) -> argparse.Namespace:
    """Parse arguments like fairseq-generate.

    Args:
        args: all arguments, without ``--user-dir``.
        given: those of the user, for messages.

    Raises:
        UsageError: fairseq-generate does not know one of them.
    """
    # like the main function of fairseq_cli.generate
    parser = options.get_generation_parser()
    parser.add_argument("--arch", "-a", default="wav2vec2")

    def error(message: str) -> NoReturn:
        raise UsageError(f"fairseq-generate does not take '{given}' (after --): {message}")

    parser.error = error
    try:
        return options.parse_args_and_arch(parser, list(args))
    except SystemExit as end:
        raise UsageError(f"'{given}' is no option of a translation: remove it") from end
    except (ValueError, RuntimeError) as problem:
        if isinstance(problem, UsageError):
            raise
        error(str(problem))


def _refused(names: str, given: str) -> UsageError:
    return UsageError(
        f"'{given}' changes {names} of fairseq-generate, which transfer-set sets itself or cannot "
        "use: remove it (beam size, batch size, subset, languages and processes are options of "
        "transfer-set, before --)"
    )
