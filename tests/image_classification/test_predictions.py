"""Predictions and scores against textbook formulas in scipy and loops."""

import numpy as np
import pytest
import torch
from predictions import (
    ECE_BINS,
    Prediction,
    Scores,
    of_classifier,
    of_ensemble,
    of_prior_network,
    of_proxy,
)
from scipy import special, stats
from torch import Tensor

from fairseq_pdd.core import EnsembleStatistics

N, M, K = 40, 5, 7


@pytest.fixture
def member_logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(N, 1, K, generator=generator) + torch.randn(N, M, K, generator=generator)


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(K, (N,), generator=torch.Generator().manual_seed(1))


def statistics(logits: Tensor) -> EnsembleStatistics:
    result = EnsembleStatistics()
    for member in logits.unbind(1):
        result.update(member.log_softmax(-1))
    return result


def dirichlet_information(alpha: np.ndarray) -> np.ndarray:
    total = alpha.sum(-1, keepdims=True)
    mean = alpha / total
    data = -(mean * (special.digamma(alpha + 1) - special.digamma(total + 1))).sum(-1)
    return stats.entropy(mean, axis=-1) - data


def test_the_proxy_is_the_dirichlet_of_equation_16(member_logits: Tensor) -> None:
    probs = special.softmax(member_logits.double().numpy(), axis=-1)
    mean = probs.mean(1)
    mkl = (mean * (np.log(mean) - np.log(probs).mean(1))).sum(-1)
    beta = mean * (K - 1) / (2 * mkl[:, None])
    proxy = of_proxy(statistics(member_logits))
    assert proxy.knowledge is not None
    np.testing.assert_allclose(proxy.knowledge.numpy(), dirichlet_information(beta), rtol=1e-4)
    np.testing.assert_allclose(proxy.total.numpy(), stats.entropy(mean, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(proxy.log_probs.exp().numpy(), mean, rtol=1e-5)


def test_members_that_agree_have_a_sharp_proxy() -> None:
    same = torch.randn(3, 1, K, generator=torch.Generator().manual_seed(2)).expand(3, M, K)
    proxy = of_proxy(statistics(same))
    assert proxy.knowledge is not None
    entropy = stats.entropy(special.softmax(same[:, 0].double().numpy(), axis=-1), axis=-1)
    np.testing.assert_allclose(proxy.total.numpy(), entropy, rtol=1e-5)
    torch.testing.assert_close(proxy.knowledge.float(), torch.zeros(3), rtol=0, atol=1e-5)


def test_a_prior_network_has_the_measures_of_a_dirichlet(member_logits: Tensor) -> None:
    logits = member_logits[:, 0]
    prediction = of_prior_network(logits)
    assert prediction.knowledge is not None
    alpha = np.exp(logits.double().numpy())
    np.testing.assert_allclose(
        prediction.knowledge.numpy(), dirichlet_information(alpha), rtol=1e-4
    )
    plain = of_classifier(logits)
    assert plain.knowledge is None
    torch.testing.assert_close(plain.total, prediction.total)
    torch.testing.assert_close(plain.log_probs, prediction.log_probs)


def test_the_ensembles_knowledge_is_the_difference_of_entropies(member_logits: Tensor) -> None:
    probs = special.softmax(member_logits.double().numpy(), axis=-1)
    gap = stats.entropy(probs.mean(1), axis=-1) - stats.entropy(probs, axis=-1).mean(-1)
    prediction = of_ensemble(statistics(member_logits))
    assert prediction.knowledge is not None
    np.testing.assert_allclose(prediction.knowledge.numpy(), gap, rtol=1e-4, atol=1e-6)


def scored(prediction: Prediction, labels: Tensor, batch: int) -> Scores:
    scores = Scores()
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        knowledge = None if prediction.knowledge is None else prediction.knowledge[part]
        scores.update(
            Prediction(prediction.log_probs[part], prediction.total[part], knowledge), labels[part]
        )
    return scores


@pytest.mark.parametrize("batch", [N, 7])
def test_quality_equals_that_of_loops(member_logits: Tensor, labels: Tensor, batch: int) -> None:
    quality = scored(of_classifier(member_logits[:, 0]), labels, batch).quality()
    probs = special.softmax(member_logits[:, 0].double().numpy(), axis=-1)
    bins: dict[int, list[tuple[float, bool]]] = {}
    nll = brier = hits = 0.0
    for row, label in zip(probs, labels.tolist()):
        hit = bool(row.argmax() == label)
        hits += hit
        nll -= np.log(row[label])
        brier += sum((p - (k == label)) ** 2 for k, p in enumerate(row))
        bins.setdefault(int(row.max() * ECE_BINS), []).append((row.max(), hit))
    ece = sum(abs(sum(c - hit for c, hit in rows)) for rows in bins.values())
    expected = {
        "accuracy": 100 * hits / N,
        "ece": 100 * ece / N,
        "nll": nll / N,
        "brier": brier / N,
    }
    assert quality == pytest.approx(expected, rel=1e-5)


def test_certainty_shares_the_last_bin() -> None:
    """500 images with 0.96, all right, and 500 with 1.0, of which 80 % are right."""
    confidence = torch.tensor([0.96, 1.0]).repeat_interleave(500)
    probs = torch.stack([confidence, 1 - confidence], dim=-1)
    labels = torch.zeros(1000, dtype=torch.long)
    labels[900:] = 1
    scores = Scores()
    for part in (slice(0, 300), slice(300, 1000)):
        scores.update(Prediction(probs[part].log(), torch.zeros(1000)[part], None), labels[part])
    assert scores.quality()["ece"] == pytest.approx(8, abs=1e-4)  # |0.98 - 0.90|


def test_detection_is_the_probability_of_a_correct_order(member_logits: Tensor) -> None:
    unknown = torch.full((N,), -1)
    inside = scored(of_prior_network(member_logits[:, 0] + 2), unknown, 9)
    outside = scored(of_prior_network(member_logits[:, 1]), unknown, 9)
    assert inside.quality() == {}
    measured = outside.detection(inside)
    for name in ("total", "knowledge"):
        ins, outs = getattr(inside, name).tolist(), getattr(outside, name).tolist()
        ordered = sum((o > i) + 0.5 * (o == i) for i in ins for o in outs) / N**2
        assert measured[f"auc_{name}"] == pytest.approx(100 * ordered)


def test_images_of_unknown_classes_count_for_uncertainty_only(
    member_logits: Tensor, labels: Tensor
) -> None:
    prediction = of_classifier(member_logits[:, 0])
    mixed = labels.clone()
    mixed[::2] = -1
    scores = scored(prediction, mixed, 8)
    assert len(scores.total) == N
    known = Prediction(prediction.log_probs[1::2], prediction.total[1::2], None)
    assert scores.quality() == pytest.approx(scored(known, labels[1::2], N).quality())
