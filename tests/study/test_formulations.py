"""The study's other formulations, against formulas in float64 and against what they optimise."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import digamma
from scipy.stats import dirichlet

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "study"))
from study_plugin.formulations import AuthorsEstimator, ProxyEstimator, authors_prior_weight

from fairseq_pdd.core import reverse_kl_proxy_dirichlet
from fairseq_pdd.records import FIELDS

N, K, M = 6, 11, 4


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.arange(N)


def named(estimator: Any, outputs: Any, tokens: torch.Tensor) -> Any:
    found = estimator.measures(outputs, tokens, None)
    assert found.shape == (1, len(FIELDS), N)
    return dict(zip(FIELDS, found[0].double().numpy()))


def test_the_proxy_is_the_dirichlet_of_eq_16(tokens: torch.Tensor) -> None:
    torch.manual_seed(0)
    members = [torch.randn(N, K).log_softmax(-1) for _ in range(M)]
    found = named(ProxyEstimator([None] * M), members, tokens)
    probs = torch.stack(members).double().exp().numpy()
    mean = probs.mean(0)
    mkl = (mean * (np.log(mean) - np.log(probs).mean(0))).sum(-1)
    alpha = (K - 1) / (2 * mkl)[:, None] * mean
    alpha0 = alpha.sum(-1)
    expected_entropy = -(mean * (digamma(alpha + 1) - digamma(alpha0 + 1)[:, None])).sum(-1)
    total = -(mean * np.log(mean)).sum(-1)
    mean_log = digamma(alpha) - digamma(alpha0)[:, None]
    # the proxy has the ensemble's mean, and EPKL of twice the ensemble's MKL
    np.testing.assert_allclose(found["total"], total, rtol=1e-5)
    np.testing.assert_allclose(found["data"], expected_entropy, rtol=1e-5)
    np.testing.assert_allclose(found["mutual_information"], total - expected_entropy, rtol=1e-4)
    np.testing.assert_allclose(found["epkl"], 2 * mkl, rtol=1e-4)
    np.testing.assert_allclose(found["rmi"], 2 * mkl - (total - expected_entropy), rtol=1e-4)
    rows = np.arange(N)
    np.testing.assert_allclose(found["score"], -np.log(mean[rows, rows]), rtol=1e-5)
    expected = np.log(mean[rows, rows]) - mean_log[rows, rows]
    np.testing.assert_allclose(found["rmi_score"], expected, rtol=1e-3, atol=1e-5)


def test_a_proxy_of_equal_members_has_no_knowledge_uncertainty(tokens: torch.Tensor) -> None:
    member = torch.randn(N, K).log_softmax(-1)
    found = named(ProxyEstimator([None] * M), [member] * M, tokens)
    assert np.abs(found["epkl"]).max() < 1e-5
    assert all(np.isfinite(value).all() for value in found.values())


def test_measures_of_the_authors_code(tokens: torch.Tensor) -> None:
    torch.manual_seed(1)
    z = 2 * torch.randn(N, K) + 1
    found = named(AuthorsEstimator([None]), [z], tokens)
    e = np.exp(z.double().numpy())
    mean, alpha = e / e.sum(-1, keepdims=True), e + 1
    alpha0 = alpha.sum(-1)
    total = -(mean * np.log(mean)).sum(-1)
    data = -(mean * (digamma(alpha + 1) - digamma(alpha0 + 1)[:, None])).sum(-1)
    # the reversed sign leaves nothing, but where data exceeds total, as the two are of different
    # distributions
    np.testing.assert_allclose(found["mutual_information"], np.maximum(data - total, 0), atol=1e-6)
    np.testing.assert_allclose(found["epkl"], (K - 1) / alpha0, rtol=1e-6)
    samples = dirichlet(alpha[0]).rvs(200_000, random_state=0)
    rmi = (mean[0] * (np.log(mean[0]) - np.log(samples))).sum(-1).mean()
    assert found["rmi"][0] == pytest.approx(rmi, rel=0.02)
    assert found["score"][2] == pytest.approx(-np.log(mean[2, 2]), rel=1e-5)


def test_the_optimum_of_the_authors_loss_has_a_precision_too_high_by_k() -> None:
    mean = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    precision, offset = 20.0, 1.0
    weight = authors_prior_weight(torch.tensor(1 / precision).double(), offset, 3)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = reverse_kl_proxy_dirichlet(logits, mean, weight, offset, compiled=False)
        value.backward()
        return value

    optimiser.step(loss)
    expected = (precision + offset * 3) * mean
    torch.testing.assert_close(logits.detach().exp(), expected, rtol=1e-3, atol=0)
