"""Distributions against torch.distributions: densities, moments, divergences, gradients; samples by their moments."""
import math

import numpy as np
import pytest

import kdl

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")
ours, theirs = kdl.distributions, torch.distributions
RNG = np.random.default_rng(0)

P, Q = RNG.uniform(0.1, 0.9, (2, 3, 4))
CASES = {
    "Normal": ("Normal", {"loc": P, "scale": Q}, RNG.standard_normal((2, 3, 4))),
    "Uniform": ("Uniform", {"low": -P, "high": Q}, RNG.uniform(-0.1, 0.1, (3, 4))),
    "Exponential": ("Exponential", {"rate": P}, RNG.exponential(size=(3, 4))),
    "Bernoulli": ("Bernoulli", {"probs": P}, (RNG.random((2, 3, 4)) < 0.5).astype(float)),
    "Bernoulli of logits": ("Bernoulli", {"logits": 4 * P - 2}, (RNG.random((3, 4)) < 0.5).astype(float)),
    "Categorical": ("Categorical", {"probs": P}, RNG.integers(0, 4, (2, 3))),
    "Categorical of logits": ("Categorical", {"logits": 3 * Q}, RNG.integers(0, 4, 3)),
}
every_case = pytest.mark.parametrize("name", CASES)


def pair(name):
    kind, parameters, value = CASES[name]
    a = {key: kdl.Tensor(array.copy()).requires_grad_() for key, array in parameters.items()}
    b = {key: torch.from_numpy(array.copy()).requires_grad_() for key, array in parameters.items()}
    return getattr(ours, kind)(**a), getattr(theirs, kind)(**b), a, b, value


def close(a, b):
    assert a.shape == b.shape
    np.testing.assert_allclose(a.detach().array, b.detach().numpy(), rtol=1e-9, atol=1e-12)


@every_case
def test_densities_and_moments_are_torchs(name):
    p, q, a, b, value = pair(name)
    assert (p.batch_shape, p.event_shape, p.has_rsample) == (q.batch_shape, q.event_shape, q.has_rsample)
    x, y = p.log_prob(kdl.Tensor(value)), q.log_prob(torch.from_numpy(value))
    close(x, y)
    x.sum().backward()
    y.sum().backward()
    for key in a:
        np.testing.assert_allclose(a[key].grad.array, b[key].grad.numpy(), rtol=1e-9, atol=1e-12)
    for what in ("entropy", "perplexity"):
        close(getattr(p, what)(), getattr(q, what)())
    for what in ("mean", "mode", "variance", "stddev"):
        close(getattr(p, what), getattr(q, what))
    if hasattr(p, "cdf"):
        close(p.cdf(kdl.Tensor(value)), q.cdf(torch.from_numpy(value)))
        close(p.icdf(kdl.Tensor(P)), q.icdf(torch.from_numpy(P)))
    if q.has_enumerate_support:
        for expand in (True, False):
            close(p.enumerate_support(expand), q.enumerate_support(expand))
    if hasattr(p, "probs"):
        close(p.probs, q.probs)
        close(p.logits, q.logits)


@every_case
def test_expanded_ones_and_events_are_torchs(name):
    p, q, _, _, value = pair(name)
    shape = (5, 1, *p.batch_shape)
    close(p.expand(shape).log_prob(kdl.Tensor(value)), q.expand(shape).log_prob(torch.from_numpy(value)))
    assert p.expand(shape).sample((2,)).shape == q.expand(shape).sample((2,)).shape
    i, j = ours.Independent(p, 1), theirs.Independent(q, 1)
    assert (i.batch_shape, i.event_shape) == (j.batch_shape, j.event_shape)
    close(i.log_prob(kdl.Tensor(value)), j.log_prob(torch.from_numpy(value)))
    close(i.entropy(), j.entropy())
    assert i.sample((7,)).shape == j.sample((7,)).shape
    close(ours.kl_divergence(i, i), theirs.kl_divergence(j, j))


@every_case
def test_samples_have_their_moments(name):
    kdl.manual_seed(0)
    p, q, a, _, _ = pair(name)
    drawn = p.sample((20000,))
    assert drawn.shape == q.sample((20000,)).shape and not drawn.requires_grad
    assert p.sample().shape == q.sample().shape and p.sample((0,)).shape == (0, *q.sample().shape)
    if name.startswith("Categorical"):
        frequencies = np.stack([(drawn.array == c).mean(0) for c in range(4)], -1)
        np.testing.assert_allclose(frequencies, p.probs.detach().array, atol=0.02)
        return
    np.testing.assert_allclose(drawn.array.mean(0), p.mean.detach().array, atol=5 * p.stddev.detach().array.max() / 141)
    np.testing.assert_allclose(drawn.array.std(0), p.stddev.detach().array, rtol=0.05)
    if p.has_rsample:
        p.rsample((3,)).sum().backward()
        assert all(x.grad is not None for x in a.values())
    else:
        with pytest.raises(NotImplementedError):
            p.rsample()


@pytest.mark.parametrize("name", ["Normal", "Uniform", "Exponential", "Bernoulli", "Categorical"])
def test_divergences_are_torchs(name):
    (p, q, a, b, _), kind = pair(name), CASES[name][0]
    other = {key: array * (1.5 if key != "probs" else 1) + (0.05 if key != "low" else 0)
             for key, array in CASES[name][1].items()}
    r = getattr(ours, kind)(**{key: kdl.Tensor(array) for key, array in other.items()})
    s = getattr(theirs, kind)(**{key: torch.from_numpy(array) for key, array in other.items()})
    x, y = ours.kl_divergence(p, r), theirs.kl_divergence(q, s)
    close(x, y)
    x[np.isfinite(y.detach().numpy())].sum().backward()
    y[torch.isfinite(y)].sum().backward()
    for key in a:
        np.testing.assert_allclose(a[key].grad.array, b[key].grad.numpy(), rtol=1e-9, atol=1e-12)


def test_divergences_at_the_edges():
    for kind, p, q in (("Bernoulli", [0.0, 1.0, 0.5, 0.5], [0.5, 0.5, 0.0, 1.0]),
                       ("Categorical", [[0.0, 1.0], [0.5, 0.5]], [[0.5, 0.5], [0.0, 1.0]]), ("Uniform", None, None)):
        if p is None:
            x = ours.kl_divergence(ours.Uniform(0.0, 1.0), ours.Uniform(0.5, 2.0))
            y = theirs.kl_divergence(theirs.Uniform(0.0, 1.0), theirs.Uniform(0.5, 2.0))
        else:
            x = ours.kl_divergence(*[getattr(ours, kind)(kdl.tensor(v)) for v in (p, q)])
            y = theirs.kl_divergence(*[getattr(theirs, kind)(torch.tensor(v)) for v in (p, q)])
        np.testing.assert_allclose(x.array, y.numpy(), rtol=1e-5)
    with pytest.raises(NotImplementedError, match="no formula for Normal and Bernoulli"):
        ours.kl_divergence(ours.Normal(0, 1), ours.Bernoulli(0.5))


def test_numbers_as_parameters():
    p, q = ours.Normal(0, 2), theirs.Normal(0.0, 2.0)
    assert p.loc.dtype == kdl.float32 and p.sample().shape == () and repr(ours.Normal(kdl.ones(3), 2.0))
    assert p.log_prob(kdl.tensor(1.0)).item() == pytest.approx(q.log_prob(torch.tensor(1.0)).item())
    assert ours.Bernoulli(0.3).sample((4,)).shape == (4,)


@pytest.mark.parametrize("message, call", [
    ("Normal: expected scale > 0", lambda: ours.Normal(0.0, -1.0)),
    ("Uniform: expected low < high", lambda: ours.Uniform(1.0, 0.0)),
    ("Exponential: expected rate > 0", lambda: ours.Exponential(0.0)),
    ("probs in", lambda: ours.Bernoulli(1.5)),
    ("either probs or logits", lambda: ours.Bernoulli()),
    ("either probs or logits", lambda: ours.Categorical(kdl.ones(2), kdl.ones(2))),
    ("at least one dimension", lambda: ours.Categorical(kdl.ones(()))),
    ("not all 0", lambda: ours.Categorical(kdl.zeros(2))),
    ("support: 0 and 1", lambda: ours.Bernoulli(0.5).log_prob(kdl.tensor(0.5))),
    ("support: integers from 0 to 1", lambda: ours.Categorical(kdl.ones(2)).log_prob(kdl.tensor(2))),
    ("support: numbers of at least 0", lambda: ours.Exponential(1.0).log_prob(kdl.tensor(-1.0))),
    ("support: numbers from low", lambda: ours.Uniform(0.0, 1.0).log_prob(kdl.tensor(2.0))),
    ("a Tensor", lambda: ours.Normal(0.0, 1.0).log_prob(1.0)),
    ("at most as many dimensions", lambda: ours.Independent(ours.Normal(0.0, 1.0), 1)),
])
def test_refusals(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_validation():
    assert ours.Uniform(0.0, 1.0, validate_args=False).log_prob(kdl.tensor(2.0)).item() == -math.inf
    assert math.isnan(ours.Normal(0.0, -1.0, validate_args=False).entropy().item())
