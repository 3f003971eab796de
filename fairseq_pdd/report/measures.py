"""What the page calls the measures and says of them."""

from typing import Dict, NamedTuple

from ..assess.scores import EXPR


class Description(NamedTuple):
    """Name and one sentence for the reader of a report."""

    label: str
    help: str


_DESCRIPTIONS = {
    "total": Description("Total", "Entropy of the prediction: uncertain, for whatever reason."),
    "data": Description(
        "Data", "What the members are unsure of each by itself: several outputs are good."
    ),
    "mutual_information": Description(
        "Mutual information", "Knowledge uncertainty: how far the members disagree."
    ),
    "epkl": Description(
        "EPKL", "Knowledge uncertainty: expected pairwise KL divergence between members."
    ),
    "rmi": Description(
        "RMI", "Knowledge uncertainty: reverse mutual information, unlike what was trained on."
    ),
    "score": Description("Score", "−ln P of the output."),
    "rmi_score": Description(
        "RMI score",
        "Knowledge uncertainty from the probability of the output alone; can fall below 0.",
    ),
}


def describe(measure: str) -> Dict[str, str]:
    """Label, help and, for ensembles combined as an expectation of products, group."""
    name = measure[len(EXPR) :] if measure.startswith(EXPR) else measure
    label, text = _DESCRIPTIONS.get(name, Description(name, ""))
    if name == measure:
        return {"label": label, "help": text}
    return {
        "label": f"{label} (ExPr)",
        "help": f"{text} Members weighted by what they said so far.",
        "group": "Expectation of products",
    }
