"""``fairseq_pdd.load``: models that return outputs with their uncertainty, in Python."""

import copy
import dataclasses
import logging
import math
import os
from argparse import Namespace
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import (
    AbstractSet,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Union,
)

import numpy as np
import torch
from fairseq import tasks, utils
from fairseq.data import encoders
from fairseq.dataclass.configs import GenerationConfig
from fairseq.dataclass.utils import overwrite_args_by_name
from fairseq.hub_utils import GeneratorHubInterface
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY, FairseqTask
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from .checkpoints.fit import check_fit, check_members, require_files
from .checkpoints.reading import config_of, map_checkpoint, reason_of
from .errors import UsageError
from .models.prior_network import prior_network_offset
from .tasks import SCORING_TASKS, DistillationTaskMixin

logger = logging.getLogger(__name__)

Path = Union[str, "os.PathLike[str]"]

_SEARCH: Dict[str, type] = {
    "max_len_a": float,
    "max_len_b": int,
    "min_len": int,
    "match_source_len": bool,
    "unnormalized": bool,
    "lenpen": float,
    "unkpen": float,
    "no_repeat_ngram_size": int,
    "sampling": bool,
    "sampling_topk": int,
    "sampling_topp": float,
    "temperature": float,
    "diverse_beam_groups": int,
    "diverse_beam_strength": float,
    "diversity_rate": float,
}
"""Options of fairseq-generate that have their effect in :class:`Translator`, and their types."""

_TASK = (
    "data",
    "source_lang",
    "target_lang",
    "config_yaml",
    "max_source_positions",
    "max_target_positions",
    "measures_dirichlet",
)
_BATCHES = {"max_tokens": int, "batch_size": int}
_ENCODERS: Dict[str, Callable[[Any], Any]] = {
    "tokenizer": encoders.build_tokenizer,
    "bpe": encoders.build_bpe,
}
_OF_GENERATE = (
    "verbose",
    "skip_invalid_size_inputs",
    "inference_step_args",
    "prefix_allowed_tokens_fn",
)
"""Arguments of fairseq's own function, which are no options of the search."""
_INSTEAD = {
    "beam": "give it to translate() or n_best()",
    "nbest": "n_best() returns all outputs of the beam",
    "score_reference": "score() scores given outputs",
    "fp16": "call .half() on the model",
    "cpu": "call .cuda() on the model for a GPU",
}
"""Fixes for options that have no effect."""


@dataclass(frozen=True)
class Output:
    """An output of a model with its uncertainty in nats, with the names of the record format."""

    source: str
    """Source text, unchanged."""
    text: str
    """Detokenised output."""
    tokens: List[str]
    """Symbols of the output, L of them; the last one is end-of-sequence."""
    log_prob: float
    """ln P(output | source)."""
    sequence: Dict[str, Optional[float]]
    """Means over the tokens of each measure (``total``, ``data``, ``mutual_information``,
    ``epkl``, ``rmi``, ``score``, ``rmi_score``); ``None`` for what the model does not have."""
    token: Dict[str, Optional[List[float]]]
    """Values of each measure for the L tokens."""
    expr: Optional[Dict[str, Any]] = None
    """``log_prob``, ``sequence`` and ``token`` of an ensemble as an expectation of products."""


class Translator(GeneratorHubInterface):
    """One model or an ensemble, made by :func:`load`.

    A ``torch.nn.Module`` like any of fairseq's hub interfaces: ``.cuda()`` and ``.half()`` work.
    """

    def translate(self, sources: Iterable[str], beam: int = 5, **options: Any) -> List[Output]:
        """Translate sentences.

        Args:
            sources: raw text; any iterable, such as the lines of a file.
            beam: size of the beam.
            options: options of fairseq-generate's search: ``lenpen``, ``unkpen``,
                ``unnormalized``, ``min_len``, ``max_len_a``, ``max_len_b``, ``match_source_len``,
                ``no_repeat_ngram_size``, ``temperature``, ``sampling``, ``sampling_topk``,
                ``sampling_topp``, ``diverse_beam_groups``, ``diverse_beam_strength``,
                ``diversity_rate``.

        Returns:
            The best output of each source.

        Raises:
            UsageError: a source is no text or too long, which is found before anything is
                translated; an option has no effect here; the model takes speech.
        """
        return [outputs[0] for outputs in self._search(sources, beam, 1, options)]

    def n_best(self, sources: Iterable[str], beam: int = 5, **options: Any) -> List[List[Output]]:
        """Translate sentences like :meth:`translate`; return all outputs of the beam."""
        return self._search(sources, beam, beam, options)

    def score(self, sources: Iterable[str], targets: Iterable[str]) -> List[Output]:
        """Score given outputs.

        Args:
            sources: raw text; any iterable.
            targets: raw text, one output for each source. An empty one is end-of-sequence alone.

        Returns:
            The scored target of each pair; ``text`` is the target.

        Raises:
            UsageError: a source or target is no text or too long; unequal numbers; the model
                takes speech.
        """
        source_texts = _texts("sources", sources)
        target_texts = _texts("targets", targets)
        if len(source_texts) != len(target_texts):
            raise UsageError(f"{len(source_texts)} sources, but {len(target_texts)} targets")
        encoded_sources = self._encode_sources(source_texts)
        limit = self.max_positions[1]
        encoded = self._encode_all("targets", target_texts, self._encode_target, limit)
        scorer = self.task.hypothesis_scorer(list(self.models))
        results: Dict[int, Output] = {}
        for batch in self._build_batches(encoded_sources, False):
            batch = utils.apply_to_sample(lambda t: t.to(self.device), batch)
            ids = batch["id"].tolist()
            scored = scorer.score(batch, [[encoded[i].to(self.device)] for i in ids])
            for i, (values,) in zip(ids, scored):
                results[i] = self._output(source_texts[i], target_texts[i], encoded[i], values)
        return [results[i] for i in range(len(source_texts))]

    def generate(
        self, tokenized_sentences: Any, beam: int = 5, *others: Any, **options: Any
    ) -> List[Any]:
        """Search like fairseq's hub interface, and refuse options that it would ignore.

        Returns:
            fairseq's hypotheses of each sentence, or those of a single sentence ``[L]``.

        Raises:
            UsageError: a sentence is no tensor, an option has no effect here, or a value is one
                that fairseq refuses.
        """
        if torch.is_tensor(tokenized_sentences) and tokenized_sentences.dim() == 1:
            # fairseq's own function would lose some of the options
            return self.generate([tokenized_sentences], beam, *others, **options)[0]
        sentences = list(tokenized_sentences)
        if not all(torch.is_tensor(tokens) and tokens.dim() == 1 for tokens in sentences):
            raise UsageError("generate() takes tensors of encode(): give text to translate()")
        search = {name: value for name, value in options.items() if name not in _OF_GENERATE}
        _check_search(beam, search)
        if search.get("sampling_topk", 0) > len(self.tgt_dict):
            raise UsageError(
                f"sampling_topk is {search['sampling_topk']}: the vocabulary has "
                f"{len(self.tgt_dict)} types"
            )
        return super().generate(sentences, beam, *others, **options)

    def _search(
        self, sources: Iterable[str], beam: int, nbest: int, options: Dict[str, Any]
    ) -> List[List[Output]]:
        texts = _texts("sources", sources)
        _check_search(beam, options)
        outputs = self.generate(
            self._encode_sources(texts),
            beam=beam,
            inference_step_args={"nbest": nbest},
            **options,
        )
        return [
            [
                self._output(source, self.decode(h["tokens"]), h["tokens"], h["uncertainty"])
                for h in hypotheses[:nbest]
            ]
            for source, hypotheses in zip(texts, outputs)
        ]

    def _encode_sources(self, texts: Sequence[str]) -> List[Tensor]:
        if self.src_dict is None:
            raise UsageError(
                "the model takes speech, and this function takes text: use fairseq-generate, or "
                "generate() of fairseq's own interface"
            )
        limits = [self.max_positions[0], self.cfg.dataset.max_tokens or math.inf]
        return self._encode_all("sources", texts, self.encode, min(limits))

    def _encode_all(
        self, name: str, texts: Sequence[str], encode: Callable[[str], Tensor], limit: float
    ) -> List[Tensor]:
        encoded = []
        for i, text in enumerate(texts):
            text_name = f"{name}[{i}], {_start(text)},"
            with _described(f"{text_name} cannot be encoded"):  # a tokenizer may raise anything
                tokens = encode(text.strip())
            if len(tokens) > limit:
                raise UsageError(
                    f"{text_name} has {len(tokens):,} tokens, and the limit of model and "
                    f"max_tokens is {limit:,}: split it, remove it, or give a larger max_tokens "
                    "to load()"
                )
            if len(tokens) > 1 and bool((tokens[:-1] == self.tgt_dict.unk()).all()):
                logger.warning(
                    "%s has unknown symbols only; are bpe and tokenizer those of the training?",
                    text_name,
                )
            encoded.append(tokens)
        return encoded

    def _encode_target(self, text: str) -> Tensor:
        line = self.apply_bpe(self.tokenize(text))
        tokens: Tensor = self.tgt_dict.encode_line(line, add_if_not_exist=False).long()
        return tokens

    def _output(self, source: str, text: str, tokens: Tensor, scores: Dict[str, Any]) -> Output:
        return Output(source, text, [self.tgt_dict[t] for t in tokens.tolist()], **_plain(scores))


def _plain(value: Any) -> Any:
    """Convert arrays to lists."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _texts(name: str, texts: Iterable[str]) -> List[str]:
    # a set has no order, and a mapping would give its keys
    if isinstance(texts, (str, bytes, AbstractSet, Mapping)) or not isinstance(texts, Iterable):
        raise UsageError(f"give {name} as a list of sentences, not as {_kind(texts)}")
    items = list(texts)
    for i, item in enumerate(items):
        if not isinstance(item, str):
            raise UsageError(f"{name}[{i}] is of type {_kind(item)}: give text")
    return items


def _kind(value: Any) -> str:
    return "string" if isinstance(value, str) else type(value).__name__


def _start(text: str) -> str:
    """Return the beginning of a text, quoted."""
    return repr(text if len(text) <= 30 else f"{text[:30]}…")


@contextmanager
def _described(problem: str) -> Iterator[None]:
    """Raise errors of other libraries as a :class:`UsageError` that begins with the problem."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{problem}: {reason_of(error)}") from error


def _check_search(beam: Any, options: Dict[str, Any]) -> None:
    """Refuse options of a search without effect, and values of the wrong type."""
    if not _is(int, beam) or beam < 1:
        raise UsageError(f"beam is {beam!r}: give a number above 0")
    _require_known(options, set(_SEARCH), "translate()")
    _require_types(options, _SEARCH)


def _require_known(options: Iterable[str], known: Set[str], function: str) -> None:
    for name in sorted(set(options) - known):
        fix = _INSTEAD.get(name, "remove it; options with an effect: " + ", ".join(sorted(known)))
        raise UsageError(f"there is no option {name} of {function}, or it has no effect: {fix}")


def _require_types(options: Dict[str, Any], types: Dict[str, type]) -> None:
    for name, value in options.items():
        kind = types.get(name)
        if kind is not None and not _is(kind, value):
            raise UsageError(f"{name} is {value!r}: give a finite value of type {kind.__name__}")


def _is(kind: type, value: Any) -> bool:
    number: Any = {bool: bool, int: Integral, float: Real}[kind]  # numpy's, too
    is_bool = isinstance(value, bool)  # and an integer
    return isinstance(value, number) and is_bool == (kind is bool) and math.isfinite(value)


def load(
    checkpoints: Union[Path, Iterable[Path]], data: Optional[Path] = None, **overrides: Any
) -> Translator:
    """Load a Prior Network, an ensemble or an ordinary model to translate and score with.

    Args:
        checkpoints: a file, or several of an ensemble; one string may join them with ``:``, like
            fairseq's ``--path``.
        data: folder with the dictionaries, the ``--destdir`` of fairseq-preprocess; by default
            that of the training.
        overrides: options that replace those of the training: ``bpe`` and ``tokenizer`` with
            their own options, such as ``bpe="sentencepiece", sentencepiece_model="spm.model"``;
            ``source_lang``, ``target_lang``; ``max_source_positions``, ``max_target_positions``,
            ``max_tokens``, ``batch_size``; ``measures_dirichlet="shifted"`` for a Prior Network;
            and those of :meth:`Translator.translate`, as its defaults.

    Raises:
        UsageError: a file or folder is missing or unfit, weights are not finite, or an option
            does not exist or has no effect.
    """
    paths = _paths(checkpoints)
    if data is not None:
        overrides["data"] = data
    # fairseq's configuration holds strings
    overrides = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in overrides.items()
    }
    states = [map_checkpoint(path) for path in paths]
    cfgs = [copy.deepcopy(config_of(path, state)) for path, state in zip(paths, states)]
    names = [_task_name(path, cfg) for path, cfg in zip(paths, cfgs)]
    _require_same("task", paths, names, "load them apart")
    for path, cfg in zip(paths, cfgs):
        _override(path, cfg, names[0], overrides)
    for kind in _ENCODERS:
        encoders_of = [getattr(cfg[kind], "_name", cfg[kind]) for cfg in cfgs]
        _require_same(kind, paths, encoders_of, f"give {kind} to load()")
    data_folder = getattr(cfgs[0].task, "data", None)
    with _described(f"task {names[0]} of {paths[0]} cannot be set up with data {data_folder}"):
        task = tasks.setup_task(cfgs[0].task, from_checkpoint=True)
    check_members(paths, states)
    for side in ("source_lang", "target_lang"):  # not the default of fairseq's tokenizer, English
        if "tokenizer" in overrides and side not in overrides and side in (cfgs[0].tokenizer or {}):
            cfgs[0].tokenizer[side] = task.cfg[side]
    models = []
    for path, state, cfg in zip(paths, states, cfgs):
        check_fit(path, task, state)
        models.append(_build_model(path, state, cfg, task))
    if overrides.get("measures_dirichlet", "unshifted") != "unshifted" and (
        len(models) > 1 or prior_network_offset(models[0]) is None
    ):
        raise UsageError("measures_dirichlet has no effect, as this is no Prior Network: remove it")
    return Translator(cfgs[0], task, models)


def _paths(checkpoints: Any) -> List[str]:
    if isinstance(checkpoints, str):
        paths = utils.split_paths(checkpoints)
    elif isinstance(checkpoints, os.PathLike):
        paths = [checkpoints]
    elif isinstance(checkpoints, Iterable) and not isinstance(checkpoints, bytes):
        paths = list(checkpoints)
    else:
        raise UsageError(f"checkpoints are of type {_kind(checkpoints)}: give a file or a list")
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise UsageError(f"a checkpoint is of type {_kind(path)}: give the path of a file")
    paths = [os.fspath(path) for path in paths]
    if not any(paths):
        raise UsageError("checkpoint not found: none was given")
    require_files(paths, "load()")
    return paths


def _task_name(path: str, cfg: DictConfig) -> str:
    """Return the name of a checkpoint's task, or of the task of this package that extends it."""
    name = getattr(cfg.task, "_name", "")
    ours = SCORING_TASKS.get(name, name)
    task = TASK_REGISTRY.get(ours)
    if not (ours in SCORING_TASKS.values() or (task and issubclass(task, DistillationTaskMixin))):
        raise UsageError(f"{path} was trained for task {name}, whose outputs cannot be scored")
    return ours


def _override(path: str, cfg: DictConfig, task: str, overrides: Dict[str, Any]) -> None:
    """Put options into a configuration; refuse those that do not exist or have no effect."""
    own = {field.name for field in dataclasses.fields(TASK_DATACLASS_REGISTRY[task])}
    task_options = {name for name in _TASK if name in own}
    known = {*task_options, *_BATCHES, *_SEARCH, *_ENCODERS}
    for kind, build in _ENCODERS.items():
        known |= _override_encoder(path, cfg, kind, build, overrides)
    _require_known(overrides, known, f"load(), for {path}")
    _require_types(overrides, {**_BATCHES, **_SEARCH})
    others = {name: value for name, value in overrides.items() if name not in _ENCODERS}
    with open_dict(cfg):
        # that of a search with this checkpoint in the past, if any
        cfg.generation = OmegaConf.structured(GenerationConfig)
        overwrite_args_by_name(cfg, others)
        for name in task_options & set(others):
            setattr(cfg.task, name, others[name])
        if hasattr(cfg.task, "eval_bleu"):
            cfg.task.eval_bleu = False  # needs tools of the training
        cfg.task.uncertainty_path = None  # a file that would be written
        if isinstance(cfg.task, Namespace):  # a task without a config dataclass
            dataclass_of_task = TASK_DATACLASS_REGISTRY[task]
            cfg.task = OmegaConf.structured(dataclass_of_task.from_namespace(cfg.task))
        cfg.task._name = task


def _override_encoder(
    path: str,
    cfg: DictConfig,
    kind: str,
    build: Callable[[Any], Any],
    overrides: Dict[str, Any],
) -> Set[str]:
    """Put a tokenizer or BPE and its options into a configuration; return the options' names."""
    older = cfg.get(kind)
    older_name = older if isinstance(older, str) else getattr(older, "_name", None)
    name = overrides.get(kind, older_name)
    registry = REGISTRIES[kind]
    known = sorted(registry["registry"])
    if name is not None and name not in known:
        raise UsageError(f"there is no {kind} {name!r}: give one of {', '.join(known)}")
    config = registry["dataclass_registry"].get(name)
    names = {field.name for field in dataclasses.fields(config)} - {"_name"} if config else set()
    with open_dict(cfg):
        if config is None:
            cfg[kind] = name
        elif name != older_name or not isinstance(older, DictConfig):
            cfg[kind] = OmegaConf.structured(config)
        if config is not None:
            with open_dict(cfg[kind]):
                cfg[kind].update({option: overrides[option] for option in names & set(overrides)})
                cfg[kind]._name = name
    options = ", ".join(sorted(names)) or "none"
    # such as without a file or a package
    with _described(f"{kind} {name!r} for {path} (options: {options}) cannot be built"):
        build(cfg[kind])
    return names


def _require_same(kind: str, paths: Sequence[str], names: Sequence[Any], fix: str) -> None:
    for path, name in zip(paths, names):
        if name != names[0]:
            raise UsageError(
                f"{path} was trained with {kind} {name}, {paths[0]} with {names[0]}: {fix}"
            )


def _build_model(
    path: str, state: Dict[str, Any], cfg: DictConfig, task: FairseqTask
) -> torch.nn.Module:
    """Build the model of a checkpoint as fairseq does, in evaluation mode on the CPU."""
    task.load_state_dict(state.get("task_state") or {})
    with _described(f"{path} does not fit its own model configuration or its data {task.cfg.data}"):
        model = task.build_model(cfg.model, from_checkpoint=True)
        history = state.get("optimizer_history") or [{}]
        model.set_num_updates(history[-1].get("num_updates", 0))
        model.load_state_dict(state["model"], strict=True, model_cfg=cfg.model)
    return model.eval()
