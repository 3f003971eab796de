"""Prior Networks: any encoder-decoder of fairseq, read as a Dirichlet distribution."""

from .prior_network import PriorNetwork

__all__ = ["PriorNetwork"]
