"""ctc_loss against torch over generated lengths, its gradient through log_softmax, refusals."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F
from kdl import nn
from kdl.autograd import gradcheck

torch = pytest.importorskip("torch", reason="losses are compared with torch: pip install 'kdl-kernels[test]'")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=4), st.integers(0, 3),
       st.booleans(), st.sampled_from(["mean", "sum", "none"]), st.integers(0, 99))
def test_agrees_with_torch(lengths, blank, joined, reduction, seed):
    rng = np.random.default_rng(seed)
    steps, sizes = zip(*lengths, strict=True)
    labels = (rng.integers(0, 3, (len(lengths), 4)) + blank + 1) % 4  # all but blank
    if joined:
        labels = np.concatenate([row[:n] for row, n in zip(labels, sizes, strict=True)])
    z, results = rng.standard_normal((9, len(lengths), 4)), []
    for library, functional in ((kdl, F), (torch, torch.nn.functional)):
        logits = library.tensor(z, requires_grad=True)
        loss = functional.ctc_loss(library.log_softmax(logits, 2), library.tensor(labels), steps, sizes, blank,
                                   reduction, True)
        loss.sum().backward()
        results.append((np.asarray(loss.detach()), np.asarray(logits.grad)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_gradient_through_log_softmax():
    rng = np.random.default_rng(0)
    z = kdl.tensor(rng.standard_normal((6, 2, 4)), requires_grad=True)
    labels = kdl.tensor(np.array([[1, 1, 2], [3, 2, 1]]))
    gradcheck(lambda z: F.ctc_loss(kdl.log_softmax(z, 2), labels, (6, 5), (3, 2)), [z])


def test_targets_that_do_not_fit():
    x = kdl.tensor(np.log(np.full((2, 1, 3), 1 / 3)), requires_grad=True)
    labels = kdl.tensor(np.array([[1, 1]]))  # needs a blank between: three steps
    assert F.ctc_loss(x, labels, (2,), (2,)).item() == np.inf
    loss = nn.CTCLoss(zero_infinity=True)(x, labels, (2,), (2,))
    loss.backward()
    assert loss.item() == 0 and (x.grad.array == 0).all()


def test_one_step_is_cross_entropy():
    z = np.random.default_rng(0).standard_normal((1, 3, 5))
    x = kdl.log_softmax(kdl.tensor(z), 2)
    loss = F.ctc_loss(x, kdl.tensor(np.array([[2], [4], [1]])), [1, 1, 1], [1, 1, 1], reduction="none")
    np.testing.assert_allclose(loss.array, -x.array[0, [0, 1, 2], [2, 4, 1]], rtol=1e-12)


x, y = kdl.zeros(4, 2, 3), kdl.tensor([[1, 2], [2, 1]])


@pytest.mark.parametrize("call, error, message", [
    (lambda: F.ctc_loss(x, y, (4, 4), (2, 2), blank=3), ValueError, "blank within the classes"),
    (lambda: F.ctc_loss(x, y, (4, 5), (2, 2)), ValueError, "input_lengths from 0 to 4"),
    (lambda: F.ctc_loss(x, y, (4,), (2, 2)), ValueError, "2 input_lengths"),
    (lambda: F.ctc_loss(x, y, (4, 4), (2, 3)), ValueError, r"targets of shape \(2, 3\) at least"),
    (lambda: F.ctc_loss(x, y + 1, (4, 4), (2, 2)), ValueError, r"targets in \[0, 3\)"),
    (lambda: F.ctc_loss(x, y.reshape(-1), (4, 4), (2, 1)), ValueError, "as many targets as target_lengths add up to"),
    (lambda: F.ctc_loss(x, y.float(), (4, 4), (2, 2)), TypeError, "targets of dtype int64"),
    (lambda: F.ctc_loss(x, y, (4.0, 4.0), (2, 2)), TypeError, "input_lengths to be ints"),
    (lambda: F.ctc_loss(x, y, (4, 4), (2, 2), reduction="max"), ValueError, "reduction"),
])
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
