"""Labels and explanations of the measures for readers of the page."""

from typing import Dict, NamedTuple

from ..records import EXPR_PREFIX


class Description(NamedTuple):
    """Label of a measure, and one sentence that explains it."""

    label: str
    help: str


_DESCRIPTIONS = {
    "total": Description("Total", "Entropy of the prediction: uncertainty of whatever cause."),
    "data": Description(
        "Data", "Uncertainty of the members themselves: several outputs are plausible."
    ),
    "mutual_information": Description(
        "Mutual information", "Knowledge uncertainty: disagreement of the members."
    ),
    "epkl": Description(
        "EPKL", "Knowledge uncertainty: expected pairwise KL divergence between members."
    ),
    "rmi": Description(
        "RMI", "Knowledge uncertainty: reverse mutual information; high for input unlike training."
    ),
    "score": Description("Score", "−ln P of the output."),
    "rmi_score": Description(
        "RMI score",
        "Knowledge uncertainty from the probability of the output alone; can be below 0.",
    ),
}


def describe(measure: str) -> Dict[str, str]:
    """Return label, help and, for ensembles combined as an expectation of products, group."""
    expr = measure.startswith(EXPR_PREFIX)
    name = measure[len(EXPR_PREFIX) :] if expr else measure
    label, text = _DESCRIPTIONS.get(name, Description(name, ""))
    if not expr:
        return {"label": label, "help": text}
    return {
        "label": f"{label} (ExPr)",
        "help": f"{text} Members are weighted by the probability that they give to the prefix.",
        "group": "Expectation of products",
    }
