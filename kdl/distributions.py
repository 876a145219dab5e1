"""Probability distributions under the names of torch.distributions: samples, log-probabilities, entropies, divergences.

A distribution has parameters that broadcast to its batch_shape; one draw has the shape batch_shape + event_shape.
`sample` is not recorded; `rsample` is a differentiable function of the parameters (Kingma and Welling, 2014). Values
and parameters that do not fit are refused with ValueError unless validate_args is False.

Normal       log p = -(x - m)^2 / (2 s^2) - log s - log(2 pi) / 2          x = m + s e, e normal
Uniform      log p = -log(high - low) where low <= x < high                x = low + u (high - low), u uniform
Exponential  log p = log r - r x                                           x = e / r, e exponential
Bernoulli    log p = x log p + (1 - x) log(1 - p), p = sigmoid(logits)
Categorical  log p = logits_x - log sum exp logits, along the last dimension
"""
import math

from kdl import random
from kdl.autograd import no_grad
from kdl.errors import expect
from kdl.nn.functional import binary_cross_entropy_with_logits, softmax
from kdl.ops.activation import sigmoid
from kdl.ops.creation import arange, full, tensor
from kdl.ops.select import where
from kdl.ops.shape import broadcast_tensors
from kdl.tensor import Size, Tensor
from kdl.types import epsilon

__all__ = ["Bernoulli", "Categorical", "Distribution", "Exponential", "Independent", "Normal", "Uniform",
           "kl_divergence"]


class Distribution:
    """What all distributions share. A subclass names its parameters in `parameters` and gives the methods it has."""
    has_rsample = has_enumerate_support = False
    parameters = ()

    def __init__(self, batch_shape=(), event_shape=(), validate_args=None):
        self.batch_shape, self.event_shape = Size(batch_shape), Size(event_shape)
        self._validate_args = validate_args is not False

    def _refuse_unless(self, fits, what):
        """Raise ValueError unless a boolean tensor is all True, where arguments are validated."""
        expect(not self._validate_args or bool(fits.all()), type(self).__name__, what)

    def expand(self, batch_shape):
        """The same distribution with its parameters expanded to a larger batch_shape."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.batch_shape = Size(batch_shape)
        for name in self.parameters:
            if name in self.__dict__:
                extra = getattr(self, name).shape[len(self.batch_shape):]
                setattr(new, name, getattr(self, name).expand(*batch_shape, *extra))
        return new

    def _shape(self, sample_shape):
        return (*sample_shape, *self.batch_shape, *self.event_shape)

    @property
    def stddev(self):
        """The standard deviation."""
        return self.variance.sqrt()

    @no_grad()
    def sample(self, sample_shape=()):
        """Draws, (*sample_shape, *batch_shape, *event_shape), that are not recorded."""
        return self.rsample(sample_shape)

    def rsample(self, sample_shape=()):
        """Draws that are differentiable functions of the parameters."""
        raise NotImplementedError(f"{type(self).__name__}: rsample is not defined")

    def log_prob(self, value):
        """The logarithm of the density, or of the probability, of a value."""
        raise NotImplementedError(f"{type(self).__name__}: log_prob is not defined")

    def perplexity(self):
        """e to the power of the entropy."""
        return self.entropy().exp()

    def _checked(self, value):
        expect(isinstance(value, Tensor), type(self).__name__, "a Tensor", value=type(value).__name__)
        if self._validate_args:
            self._refuse_unless(self._supports(value), f"a value in the support: {self.support}")
        return value

    def __repr__(self):
        shown = [f"{name}: {p if p.numel() == 1 else p.shape}" for name, p in
                 ((name, self.__dict__[name]) for name in self.parameters if name in self.__dict__)]
        return f"{type(self).__name__}({', '.join(shown)})"


def _broadcast(*values):
    """The parameters as tensors of one shape."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    return broadcast_tensors(*[v if isinstance(v, Tensor) else tensor(float(v)) if like is None
                               else like.new_tensor(float(v)) for v in values])


class Normal(Distribution):
    """The normal distribution of mean `loc` and standard deviation `scale`."""
    has_rsample, parameters, support = True, ("loc", "scale"), "real numbers"

    def __init__(self, loc, scale, validate_args=None):
        self.loc, self.scale = _broadcast(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)
        self._refuse_unless(self.scale > 0, "scale > 0")

    mean = mode = property(lambda self: self.loc)
    variance = property(lambda self: self.scale**2)
    stddev = property(lambda self: self.scale)

    def _supports(self, value):
        return value == value

    def rsample(self, sample_shape=()):
        noise = random.randn(*self._shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    def log_prob(self, value):
        z = (self._checked(value) - self.loc) / self.scale
        return -z * z / 2 - self.scale.log() - math.log(2 * math.pi) / 2

    def cdf(self, value):
        """The probability of less than the value."""
        return (1 + ((self._checked(value) - self.loc) / (self.scale * math.sqrt(2))).erf()) / 2

    def icdf(self, value):
        """The number below which lies the probability `value`."""
        return self.loc + self.scale * (2 * value - 1).erfinv() * math.sqrt(2)

    def entropy(self):
        """log s + (1 + log(2 pi)) / 2."""
        return self.scale.log() + (1 + math.log(2 * math.pi)) / 2


class Uniform(Distribution):
    """Every number in [low, high) with the same density."""
    has_rsample, parameters, support = True, ("low", "high"), "numbers from low to high"

    def __init__(self, low, high, validate_args=None):
        self.low, self.high = _broadcast(low, high)
        super().__init__(self.low.shape, (), validate_args)
        self._refuse_unless(self.low < self.high, "low < high")

    mean = property(lambda self: (self.high + self.low) / 2)
    mode = property(lambda self: self.low * math.nan)
    stddev = property(lambda self: (self.high - self.low) / math.sqrt(12))
    variance = property(lambda self: (self.high - self.low)**2 / 12)

    def _supports(self, value):
        return (value >= self.low) & (value <= self.high)

    def rsample(self, sample_shape=()):
        draws = random.rand(*self._shape(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + draws * (self.high - self.low)

    def log_prob(self, value):
        value = self._checked(value)
        inside = ((self.low <= value) & (value < self.high)).to(self.low.dtype)
        return inside.log() - (self.high - self.low).log()

    def cdf(self, value):
        """The probability of less than the value."""
        return ((self._checked(value) - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value):
        """The number below which lies the probability `value`."""
        return value * (self.high - self.low) + self.low

    def entropy(self):
        """log(high - low)."""
        return (self.high - self.low).log()


class Exponential(Distribution):
    """The time until the next of events that come `rate` times a unit."""
    has_rsample, parameters, support = True, ("rate",), "numbers of at least 0"

    def __init__(self, rate, validate_args=None):
        self.rate, = _broadcast(rate)
        super().__init__(self.rate.shape, (), validate_args)
        self._refuse_unless(self.rate > 0, "rate > 0")

    mean = stddev = property(lambda self: 1 / self.rate)
    mode = property(lambda self: self.rate * 0)
    variance = property(lambda self: self.rate**-2)

    def _supports(self, value):
        return value >= 0

    def rsample(self, sample_shape=()):
        return self.rate.detach().new_empty(self._shape(sample_shape)).exponential_() / self.rate

    def log_prob(self, value):
        return self.rate.log() - self.rate * self._checked(value)

    def cdf(self, value):
        """The probability of less than the value."""
        return 1 - (-self.rate * self._checked(value)).exp()

    def icdf(self, value):
        """The number below which lies the probability `value`."""
        return -(-value).log1p() / self.rate

    def entropy(self):
        """1 - log r."""
        return 1 - self.rate.log()


class _Discrete(Distribution):
    """Given by `probs` or by `logits`, each of which follows from the other."""
    has_enumerate_support, parameters = True, ("probs", "logits")

    def _given(self, probs, logits):
        expect((probs is None) != (logits is None), type(self).__name__, "either probs or logits",
               probs=probs is not None, logits=logits is not None)
        return probs is not None

    def __getattr__(self, name):
        if name not in self.parameters or not self.__dict__.keys() & {"probs", "logits"}:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = self._probs(self.logits) if name == "probs" else self._logits(self.probs)
        self.__dict__[name] = value
        return value

    def enumerate_support(self, expand=True):
        """All values, along a new first dimension; of the batch's shape where `expand`."""
        values = self._values().reshape(-1, *(1,) * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values


def _inner(probs):
    """Probabilities that are neither 0 nor 1, so that their logarithms are finite."""
    return probs.clamp(epsilon(probs.dtype), 1 - epsilon(probs.dtype))


class Bernoulli(_Discrete):
    """1 with probability `probs`, else 0."""
    support = "0 and 1"

    def __init__(self, probs=None, logits=None, validate_args=None):
        if self._given(probs, logits):
            self.probs, = _broadcast(probs)
        else:
            self.logits, = _broadcast(logits)
        super().__init__((self.__dict__.get("probs", self.__dict__.get("logits"))).shape, (), validate_args)
        if probs is not None:
            self._refuse_unless((self.probs >= 0) & (self.probs <= 1), "probs in [0, 1]")

    @staticmethod
    def _probs(logits):
        return sigmoid(logits)

    @staticmethod
    def _logits(probs):
        probs = _inner(probs)
        return probs.log() - (-probs).log1p()

    mean = property(lambda self: self.probs)
    variance = property(lambda self: self.probs * (1 - self.probs))

    @property
    def mode(self):
        """The likelier value; NaN where both are as likely."""
        likelier = (self.probs >= 0.5).to(self.probs.dtype)
        return where(self.probs == 0.5, math.nan, likelier)

    def _supports(self, value):
        return (value == 0) | (value == 1)

    def _values(self):
        return arange(2, dtype=self.probs.dtype, device=self.probs.device)

    @no_grad()
    def sample(self, sample_shape=()):
        return random.bernoulli(self.probs.expand(*self._shape(sample_shape)))

    def log_prob(self, value):
        logits, value = broadcast_tensors(self.logits, self._checked(value).to(self.logits.dtype))
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self):
        """-p log p - (1 - p) log(1 - p)."""
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


class Categorical(_Discrete):
    """The integers from 0 on, with the probabilities along the last dimension of `probs`, or of softmax(`logits`)."""

    def __init__(self, probs=None, logits=None, validate_args=None):
        name = "probs" if self._given(probs, logits) else "logits"
        given = probs if probs is not None else logits
        expect(given.ndim > 0, "Categorical", f"{name} of at least one dimension", **{name: given})
        super().__init__(given.shape[:-1], (), validate_args)
        if probs is not None:
            self._refuse_unless((probs >= 0).all(-1) & (probs.sum(-1) > 0), "probs of at least 0, not all 0")
            self.probs = probs / probs.sum(-1, keepdim=True)
        else:
            self.logits = logits - logits.logsumexp(-1, keepdim=True)
        self._n = given.shape[-1]

    @staticmethod
    def _probs(logits):
        return softmax(logits, -1)

    @staticmethod
    def _logits(probs):
        return _inner(probs).log()

    support = property(lambda self: f"integers from 0 to {self._n - 1}")
    mean = variance = property(lambda self: full(self.batch_shape, math.nan, dtype=self.probs.dtype))
    mode = property(lambda self: self.probs.argmax(-1))

    def _supports(self, value):
        return (value >= 0) & (value < self._n) & (value % 1 == 0)

    def _values(self):
        return arange(self._n, device=self.probs.device)

    @no_grad()
    def sample(self, sample_shape=()):
        count = math.prod(sample_shape)
        draws = random.multinomial(self.probs.reshape(-1, self._n), max(count, 1), True)
        return draws[:, :count].t().reshape(self._shape(sample_shape))

    def log_prob(self, value):
        value = self._checked(value).long().unsqueeze(-1)
        value, logits = broadcast_tensors(value, self.logits)
        return logits.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self):
        """-sum p log p."""
        return -(self.logits.clamp(min=-3e38) * self.probs).sum(-1)


class Independent(Distribution):
    """A distribution whose last batch dimensions are taken as parts of one event: log-probabilities are summed."""

    def __init__(self, base_distribution, reinterpreted_batch_ndims, validate_args=None):
        shape = base_distribution.batch_shape
        expect(reinterpreted_batch_ndims <= len(shape), "Independent", "at most as many dimensions as the batch has",
               reinterpreted_batch_ndims=reinterpreted_batch_ndims, batch_shape=shape)
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, reinterpreted_batch_ndims
        self.has_rsample = base_distribution.has_rsample
        split = len(shape) - reinterpreted_batch_ndims
        super().__init__(shape[:split], (*shape[split:], *base_distribution.event_shape), validate_args)

    mean = property(lambda self: self.base_dist.mean)
    mode = property(lambda self: self.base_dist.mode)
    variance = property(lambda self: self.base_dist.variance)

    def expand(self, batch_shape):
        """The same with a larger batch_shape."""
        inner = self.event_shape[:self.reinterpreted_batch_ndims]
        return Independent(self.base_dist.expand((*batch_shape, *inner)), self.reinterpreted_batch_ndims)

    def sample(self, sample_shape=()):
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape=()):
        return self.base_dist.rsample(sample_shape)

    def _summed(self, x):
        n = self.reinterpreted_batch_ndims
        return x.sum(tuple(range(-n, 0))) if n else x

    def log_prob(self, value):
        return self._summed(self.base_dist.log_prob(value))

    def entropy(self):
        """The sum of the parts' entropies."""
        return self._summed(self.base_dist.entropy())

    def __repr__(self):
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"


def kl_divergence(p, q):
    """The expectation under p of log p - log q, for two distributions of one kind. Raises NotImplementedError."""
    if isinstance(p, Independent) and isinstance(q, Independent):
        expect(p.reinterpreted_batch_ndims == q.reinterpreted_batch_ndims, "kl_divergence",
               "as many dimensions of an event", p=p.event_shape, q=q.event_shape)
        return p._summed(kl_divergence(p.base_dist, q.base_dist))
    formula = _DIVERGENCES.get(type(p)) if type(p) is type(q) else None
    if formula is None:
        raise NotImplementedError(f"kl_divergence: there is no formula for {type(p).__name__} and {type(q).__name__}")
    return formula(p, q)


def _of_normals(p, q):
    ratio, shift = (p.scale / q.scale)**2, ((p.loc - q.loc) / q.scale)**2
    return (ratio + shift - 1 - ratio.log()) / 2


def _of_uniforms(p, q):
    covered = (q.low <= p.low) & (q.high >= p.high)
    return where(covered, ((q.high - q.low) / (p.high - p.low)).log(), math.inf)


def _of_exponentials(p, q):
    ratio = q.rate / p.rate
    return ratio - 1 - ratio.log()


def _of_bernoullis(p, q):
    zero, one = p.probs == 0, p.probs == 1
    first = p.probs * (p.probs / q.probs).log()
    second = (1 - p.probs) * ((1 - p.probs) / (1 - q.probs)).log()
    return where(zero, 0.0, where(q.probs == 0, math.inf, first)) + where(
        one, 0.0, where(q.probs == 1, math.inf, second))


def _of_categoricals(p, q):
    terms = p.probs * (p.logits - q.logits)
    terms = where((q.probs == 0).expand_as(terms), math.inf, terms)
    return where((p.probs == 0).expand_as(terms), 0.0, terms).sum(-1)


_DIVERGENCES = {Normal: _of_normals, Uniform: _of_uniforms, Exponential: _of_exponentials, Bernoulli: _of_bernoullis,
                Categorical: _of_categoricals}
