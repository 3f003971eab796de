"""``fairseq_pdd.load``: models that return outputs with their uncertainty, in Python."""

import os
from argparse import Namespace
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from fairseq import checkpoint_utils, tasks, utils
from fairseq.dataclass.utils import overwrite_args_by_name
from fairseq.hub_utils import GeneratorHubInterface
from fairseq.tasks import TASK_REGISTRY, FairseqTask
from omegaconf import DictConfig, open_dict
from torch import Tensor

from .errors import UsageError
from .tasks import SCORING_TASKS, DistillationTaskMixin
from .teacher.checkpoints import read_config

Path = Union[str, "os.PathLike[str]"]


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

    def translate(self, sources: Sequence[str], beam: int = 5, **options: Any) -> List[Output]:
        """Translate sentences.

        Args:
            sources: raw text.
            beam: size of the beam.
            options: options of fairseq-generate's search, such as ``lenpen=0.6``.

        Returns:
            The best output of each source.

        Raises:
            UsageError: a single string, or no such option.
        """
        return [outputs[0] for outputs in self._search(sources, beam, 1, options)]

    def n_best(self, sources: Sequence[str], beam: int = 5, **options: Any) -> List[List[Output]]:
        """Translate sentences like :meth:`translate`; return all outputs of the beam."""
        return self._search(sources, beam, beam, options)

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> List[Output]:
        """Score given outputs.

        Args:
            sources: raw text.
            targets: raw text, one output for each source.

        Returns:
            The scored target of each pair; ``text`` is the target.

        Raises:
            UsageError: a single string, or unequal numbers.
        """
        _require_sentences(sources, targets)
        if len(sources) != len(targets):
            raise UsageError(f"{len(sources)} sources, but {len(targets)} targets")
        encoded = [self._encode_target(target) for target in targets]
        scorer = self.task.hypothesis_scorer(list(self.models))
        results: List[Optional[Output]] = [None] * len(sources)
        for batch in self._build_batches([self.encode(s) for s in sources], False):
            batch = utils.apply_to_sample(lambda t: t.to(self.device), batch)
            ids = batch["id"].tolist()
            scored = scorer.score(batch, [[encoded[i].to(self.device)] for i in ids])
            for i, (values,) in zip(ids, scored):
                results[i] = self._output(sources[i], targets[i], encoded[i], values)
        return [result for result in results if result is not None]

    def _search(
        self, sources: Sequence[str], beam: int, nbest: int, options: Dict[str, Any]
    ) -> List[List[Output]]:
        _require_sentences(sources)
        unknown = sorted(set(options) - set(self.cfg.generation))
        if unknown:
            raise UsageError(f"fairseq-generate has no option {', '.join(unknown)}")
        outputs = self.generate(
            [self.encode(source) for source in sources],
            beam=beam,
            inference_step_args={"nbest": nbest},
            **options,
        )
        return [
            [
                self._output(source, self.decode(h["tokens"]), h["tokens"], h["uncertainty"])
                for h in hypotheses[:nbest]
            ]
            for source, hypotheses in zip(sources, outputs)
        ]

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


def _require_sentences(*texts: Sequence[str]) -> None:
    if any(isinstance(text, str) for text in texts):
        raise UsageError("give a list of sentences, not a single string")


def load(
    checkpoints: Union[Path, Sequence[Path]], data: Optional[Path] = None, **overrides: Any
) -> Translator:
    """Load a Prior Network, an ensemble or an ordinary model to translate and score with.

    Args:
        checkpoints: a file, or several of an ensemble; one string may join them with ``:``, like
            fairseq's ``--path``.
        data: folder with the dictionaries, the ``--destdir`` of fairseq-preprocess; by default
            that of the training.
        overrides: options of fairseq that replace those of the training, such as
            ``bpe="sentencepiece", sentencepiece_model="spm.model"`` or
            ``measures_dirichlet="shifted"``.

    Raises:
        UsageError: a file or folder is missing or unfit, or there is no such option.
    """
    if isinstance(checkpoints, (str, os.PathLike)):
        paths = utils.split_paths(os.fspath(checkpoints))
    else:
        paths = [os.fspath(path) for path in checkpoints]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing or not paths:
        raise UsageError(f"checkpoint not found: {', '.join(missing) or 'none was given'}")
    if data is not None:
        overrides["data"] = data
    # fairseq's configuration holds strings
    overrides = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in overrides.items()
    }
    task = _setup_task(paths[0], overrides)
    models, cfg = _load_models(paths, task, overrides)
    return Translator(cfg, task, models)


def _setup_task(path: str, overrides: Dict[str, Any]) -> FairseqTask:
    """Set up the task of a checkpoint, or the task of this package that extends it."""
    cfg = read_config(path)
    _override(path, cfg, overrides)
    name = getattr(cfg.task, "_name", "")
    ours = SCORING_TASKS.get(name, name)
    task = TASK_REGISTRY.get(ours)
    scores = ours in SCORING_TASKS.values() or (task and issubclass(task, DistillationTaskMixin))
    if not scores:
        raise UsageError(f"{path} was trained for task {name}, whose outputs cannot be scored")
    with open_dict(cfg):
        cfg.task._name = ours
    if isinstance(cfg.task, Namespace):  # a task without a config dataclass
        cfg.task.task = ours
    return tasks.setup_task(cfg.task, from_checkpoint=True)


def _override(path: str, cfg: DictConfig, overrides: Dict[str, Any]) -> None:
    sections = [cfg, *(cfg[key] for key in cfg)]
    # options of architectures without a config dataclass, where fairseq accepts any name
    known = {
        name for section in sections if isinstance(section, Namespace) for name in vars(section)
    }
    overwrite_args_by_name(cfg, overrides)
    for section in [cfg, *(cfg[key] for key in cfg)]:
        known.update(section if isinstance(section, DictConfig) else ())
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise UsageError(f"there is no option {', '.join(unknown)} to load {path} with")


def _load_models(
    paths: Sequence[str], task: FairseqTask, overrides: Dict[str, Any]
) -> Tuple[List[Any], DictConfig]:
    models = []
    for path in paths:
        try:
            (model,), cfg, _ = checkpoint_utils.load_model_ensemble_and_task(
                [path], arg_overrides=overrides, task=task
            )
        except RuntimeError as error:
            raise UsageError(
                f"{path} does not fit the dictionaries of {task.cfg.data}: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error
        models.append(model)
    return models, cfg
