"""Textbook formulas in float64, one position at a time: the expected values of plugin tests."""

import math
from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

PAD, EOS = 1, 2


def loss(criterion: str, z: Tensor, members: Tensor, offset: float) -> Tensor:
    """Compute a criterion from logits ``[K]`` and member probabilities ``[M, K]``."""
    mean, k = members.mean(0), z.numel()
    if criterion == "send":
        return (mean * (mean.log() - z.log_softmax(0))).sum()
    alpha = z.exp() + offset
    if criterion == "send2":
        return -Dirichlet(alpha).log_prob(members).mean()
    precision = (k - 1) / (2 * (mean * (mean.log() - members.log().mean(0))).sum())
    proxy = precision * mean + offset
    if criterion == "pd_send2_forward":
        return kl_divergence(Dirichlet(proxy), Dirichlet(alpha))
    # Eq. 17 is KL(student || proxy) / precision without this constant of the proxy
    constant = (torch.lgamma(proxy).sum() - torch.lgamma(proxy.sum())) / precision
    return kl_divergence(Dirichlet(alpha), Dirichlet(proxy)) / precision - constant


def ensemble_measures(members: Tensor) -> Dict[str, float]:
    """Compute the measures from member probabilities ``[M, K]``."""
    mean = members.mean(0)
    total, data = -(mean * mean.log()).sum(), -(members * members.log()).sum(-1).mean()
    pairs = [(p * (p.log() - q.log())).sum() for p in members for q in members]
    return {
        "total": total.item(),
        "data": data.item(),
        "mutual_information": (total - data).item(),
        "epkl": torch.stack(pairs).mean().item(),
        "rmi": torch.stack([(mean * (mean.log() - p.log())).sum() for p in members]).mean().item(),
    }


def dirichlet_measures(a: Tensor) -> Dict[str, float]:
    """Compute the measures from concentrations ``[K]``."""
    m = a / a.sum()
    total = -(m * m.log()).sum()
    data = -(m * (torch.digamma(a + 1) - torch.digamma(a.sum() + 1))).sum()
    epkl = (len(a) - 1) / a.sum()
    return {
        "total": total.item(),
        "data": data.item(),
        "mutual_information": (total - data).item(),
        "epkl": epkl.item(),
        "rmi": (epkl - total + data).item(),
    }


def net_input(source: Tensor, target: Tensor) -> Dict[str, Tensor]:
    """Make a model's input for one sentence pair without padding."""
    return {
        "src_tokens": source.unsqueeze(0),
        "src_lengths": torch.tensor([len(source)]),
        "prev_output_tokens": torch.cat([torch.tensor([EOS]), target[:-1]]).unsqueeze(0),
    }


def logged_sums(
    criterion: str, student: Any, members: List[Any], sample: Dict[str, Any], offset: float
) -> Dict[str, float]:
    """Compute the sums that a criterion logs for a batch, from each sentence alone."""
    pairs = [
        (source[source.ne(PAD)], target[target.ne(PAD)])
        for source, target in zip(sample["net_input"]["src_tokens"], sample["target"])
    ]
    return sums_of_pairs(criterion, student, members, pairs, offset)


def sums_of_pairs(
    criterion: str,
    student: Any,
    members: List[Any],
    pairs: List[Tuple[Tensor, Tensor]],
    offset: float,
) -> Dict[str, float]:
    """Compute the sums that a criterion logs, from sources and targets without padding."""
    sums: Dict[str, float] = {}
    for source, target in pairs:
        inputs = net_input(source, target)
        with torch.no_grad():
            logits = student(**inputs)[0][0].double()
            probs = torch.stack([m(**inputs)[0][0].double().softmax(-1) for m in members], dim=1)
        for z, p, label in zip(logits, probs, target):
            teacher, own = ensemble_measures(p), dirichlet_measures(z.exp())
            values = {f"teacher_{name}": value for name, value in teacher.items()}
            values["teacher_log_precision"] = math.log((z.numel() - 1) / (2 * teacher["rmi"]))
            values["student_total"] = own["total"]
            if criterion != "send":
                values.update({f"student_{name}": value for name, value in own.items()})
                values["student_log_precision"] = z.logsumexp(-1).item()
            values["loss"] = loss(criterion, z, p, offset).item()
            values["nll_loss"] = -z.log_softmax(-1)[label].item()
            values["ntokens"] = 1
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
    return sums


def decode(model: Any, source: Tensor, target: Tensor) -> Tensor:
    """Compute logits ``[L, K]`` along a target with fairseq's incremental decoding."""
    inputs = net_input(source, target)
    model = model.double().eval()  # in place
    with torch.no_grad():
        encoded = model.encoder(inputs["src_tokens"], src_lengths=inputs["src_lengths"])
        previous, state, steps = inputs["prev_output_tokens"], {}, []
        for step in range(1, len(target) + 1):
            out = model.decoder(previous[:, :step], encoder_out=encoded, incremental_state=state)
            steps.append(out[0][0, -1].double())
    return torch.stack(steps)


def student_scores(logits: Tensor, target: Tensor, offset: float = 0.0) -> List[Dict[str, float]]:
    """Compute the token values of a Prior Network from its logits ``[L, K]``."""
    values = []
    for z, label in zip(logits, target):
        a = z.exp() + offset
        log_mean = (a[label] / a.sum()).log()
        mean_log = torch.digamma(a[label]) - torch.digamma(a.sum())
        values.append({**dirichlet_measures(a), **_joint(log_mean, mean_log)})
    return values


def ensemble_scores(logits: List[Tensor], target: Tensor) -> List[Dict[str, float]]:
    """Compute the token values of an ensemble from its members' logits, each ``[L, K]``."""
    values = []
    for step, label in enumerate(target):
        probs = torch.stack([z[step].softmax(-1) for z in logits])
        log_mean, mean_log = probs[:, label].mean().log(), probs[:, label].log().mean()
        values.append({**ensemble_measures(probs), **_joint(log_mean, mean_log)})
    return values


def expr_scores(logits: List[Tensor], target: Tensor) -> List[Dict[str, float]]:
    """Compute the token values of an ensemble by ExPr.

    Members are weighted by their probabilities of the prefix. They are compared with members of
    equal weights.
    """
    values, prefix_probs = [], torch.ones(len(logits), dtype=torch.float64)
    for step, label in enumerate(target):
        probs = torch.stack([z[step].softmax(-1) for z in logits])
        weights = prefix_probs / prefix_probs.sum()
        mean, mean_log = weights @ probs, probs.log().mean(0)
        total = -(mean * mean.log()).sum()
        data = -(weights * (probs * probs.log()).sum(-1)).sum()
        pairs = [w * (p * (p / q).log()).sum() for w, p in zip(weights, probs) for q in probs]
        measures = {
            "total": total.item(),
            "data": data.item(),
            "mutual_information": (total - data).item(),
            "epkl": (torch.stack(pairs).sum() / len(logits)).item(),
            "rmi": (mean * (mean.log() - mean_log)).sum().item(),
        }
        values.append({**measures, **_joint(mean[label].log(), mean_log[label])})
        prefix_probs = prefix_probs * probs[:, label]
    return values


def _joint(log_mean: Tensor, mean_log: Tensor) -> Dict[str, float]:
    return {"score": -log_mean.item(), "rmi_score": (log_mean - mean_log).item()}


def columns(values: List[Dict[str, float]]) -> Tuple[Dict[str, List[float]], Dict[str, float]]:
    """Collect the token values in lists by name; return the lists and their means."""
    lists = {name: [v[name] for v in values] for name in values[0]}
    return lists, {name: sum(v) / len(v) for name, v in lists.items()}
