"""Scoring of the hypotheses of fairseq-generate, fairseq-interactive and hub interfaces."""

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Sequence

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig
from torch import Tensor

from ..errors import UsageError
from ..generation import EncoderKeepingEnsemble, HypothesisScorer, make_scorer
from ._data_source import DataSource

_FIX = "remove it, or give --no-uncertainty"

_NOT_SCORED = {
    "retain_dropout": "records would describe other dropout masks than those of the search",
    "replace_unk": "records hold the models' outputs, in which unknown words are not replaced",
}
"""Options of a search under which records would describe something else than fairseq's output."""


@dataclass
class ScoringConfig(FairseqDataclass):
    """Options of scores."""

    measures_dirichlet: ChoiceEnum(["unshifted", "shifted"]) = field(  # type: ignore[valid-type]
        default="unshifted",
        metadata={
            "help": "Dirichlet that a Prior Network's measures are taken from: Dir(exp(z)), whose "
            "mean is the prediction, or Dir(exp(z) + offset), that of the loss"
        },
    )
    no_uncertainty: bool = field(
        default=False,
        metadata={"help": "translate or transcribe only: score no hypothesis and write no records"},
    )


class ScoringMixin(DataSource):
    """A task that attaches ``hypo["uncertainty"]`` to every hypothesis of a search."""

    def __init__(self, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(cfg, *args, **kwargs)
        self._is_validating = False

    def valid_step(self, sample: Dict[str, Any], model: BaseFairseqModel, criterion: Any) -> Any:
        """Do fairseq's step; hypotheses of a validation BLEU are not scored."""
        self._is_validating = True
        try:
            return super().valid_step(sample, model, criterion)
        finally:
            self._is_validating = False

    def build_generator(
        self,
        models: Sequence[BaseFairseqModel],
        args: Any,
        seq_gen_cls: Any = None,
        **options: Any,
    ) -> Any:
        """Build fairseq's generator; it keeps the encoders' outputs for the scores.

        Raises:
            UsageError: outputs of these models or of this search cannot be scored.
        """
        scores = not self.cfg.no_uncertainty
        if scores:
            self._require_scores(models, args)
        for name in ("beam", "nbest"):
            if getattr(args, name, 1) < 1:
                raise UsageError(f"--{name} is {getattr(args, name)}: give a number above 0")
        keeps = (
            scores
            and seq_gen_cls is None
            and not getattr(args, "score_reference", False)
            and not getattr(args, "print_alignment", None)
        )
        ensemble = EncoderKeepingEnsemble(models) if keeps else models
        with _refused_by_fairseq():
            return super().build_generator(ensemble, args, seq_gen_cls=seq_gen_cls, **options)

    def _require_scores(self, models: Sequence[BaseFairseqModel], args: Any) -> None:
        """Raise :class:`UsageError` if outputs of these models or this search have no scores."""
        for name, reason in _NOT_SCORED.items():
            if getattr(args, name, None) not in (None, False):
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} cannot be combined with scores, as {reason}: {_FIX}")
        self.hypothesis_scorer(models)  # raises an error for other kinds of models

    def inference_step(
        self,
        generator: Any,
        models: Sequence[BaseFairseqModel],
        sample: Dict[str, Any],
        prefix_tokens: Optional[Tensor] = None,
        constraints: Optional[Tensor] = None,
        nbest: Optional[int] = None,
    ) -> List[List[Dict[str, Any]]]:
        """Generate, then attach ``hypo["uncertainty"]`` unless ``--no-uncertainty`` is given.

        Args:
            generator: fairseq's generator.
            models: models of the search.
            sample: batch.
            prefix_tokens: see fairseq.
            constraints: see fairseq.
            nbest: score the first ones of each sentence only; None for all.

        Returns:
            fairseq's hypotheses. For the values see
            :meth:`fairseq_pdd.generation.HypothesisScorer.score`.

        Raises:
            UsageError: fairseq refuses the options of the search, or its constraints are missing.
        """
        search = getattr(generator, "search", None)
        if constraints is None and getattr(search, "supports_constraints", False):
            raise UsageError(
                "--constraints needs the constraints behind a tab in the lines of "
                "fairseq-interactive, which data of fairseq-preprocess does not have: remove it"
            )
        with _refused_by_fairseq():
            hypotheses = super().inference_step(
                generator, models, sample, prefix_tokens=prefix_tokens, constraints=constraints
            )
        encoder_outs, ensemble = None, getattr(generator, "model", None)
        if isinstance(ensemble, EncoderKeepingEnsemble):
            encoder_outs, ensemble.encoder_outs = ensemble.encoder_outs, None
        if self._is_validating or self.cfg.no_uncertainty:
            return hypotheses
        scored = [hypos[:nbest] for hypos in hypotheses]
        scores = self.hypothesis_scorer(models).score(
            sample,
            [[hypo["tokens"] for hypo in hypos] for hypos in scored],
            encoder_outs,
        )
        for hypos, values in zip(scored, scores):
            for hypo, value in zip(hypos, values):
                hypo["uncertainty"] = value
        return hypotheses

    def hypothesis_scorer(self, models: Sequence[BaseFairseqModel]) -> HypothesisScorer:
        """Return the scorer for one model or an ensemble, by its kind and the options."""
        dictionary = self.target_dictionary
        shifted = str(self.cfg.measures_dirichlet) == "shifted"
        return make_scorer(models, dictionary.pad(), dictionary.eos(), shifted)


@contextmanager
def _refused_by_fairseq() -> Iterator[None]:
    """Turn errors of fairseq's search about its options into :class:`UsageError`."""
    try:
        yield
    except UsageError:
        raise
    except (AssertionError, ValueError) as error:
        if not str(error):
            raise
        if re.fullmatch(r"\d+ < \d+", str(error)):  # lengths: it has found no end
            raise UsageError(
                "the search finds no output, as the models' outputs are not numbers: compute in "
                "float32 (no --fp16 or .half()), and if that does not help, train the model again"
            ) from error
        raise UsageError(f"fairseq's search refuses these options: {error}") from error
