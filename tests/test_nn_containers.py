"""Containers: names, order, slices, changes and repr, against torch's."""
from collections import OrderedDict

import numpy as np
import pytest

import kdl
from kdl import nn

torch = pytest.importorskip("torch", reason="containers are compared with torch: pip install 'kdl-kernels[test]'")


def sequential(cls):
    s = cls.Sequential(cls.Identity(), cls.Flatten(), cls.ReLU())
    s.append(cls.Tanh()).insert(1, cls.Sigmoid())
    s.extend([cls.ReLU(), cls.Identity()])
    del s[2]
    s[-1] = cls.Softplus()
    s += cls.Sequential(cls.ELU())
    return s


def module_list(cls):
    m = cls.ModuleList([cls.ReLU(), cls.ReLU(), cls.ReLU(), cls.Tanh()])
    m.append(cls.Tanh())
    m.extend([cls.ReLU()])
    m.insert(2, cls.Flatten())
    m[0] = cls.ModuleList([cls.ELU(), cls.ELU()])
    del m[-1]
    m += [cls.Sigmoid()]
    return m


@pytest.mark.parametrize("build", [sequential, module_list])
def test_rows_change_as_torchs_do(build):
    ours, theirs = build(nn), build(torch.nn)
    assert repr(ours) == repr(theirs)
    for index in (slice(1, 4), slice(None, None, 2), slice(-2, None), slice(0, 0)):
        assert repr(ours[index]) == repr(theirs[index])
    assert repr(ours.pop(2)) == repr(theirs.pop(2))
    del ours[1:3], theirs[1:3]
    assert repr(ours) == repr(theirs)
    assert repr(ours + build(nn)) == repr(theirs + build(torch.nn))
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert len(ours) == len(theirs) == len(list(ours))


@pytest.mark.parametrize("build", [sequential, module_list])
def test_wrong_positions_are_refused(build):
    row = build(nn)
    for index in (len(row), -len(row) - 1):
        with pytest.raises(IndexError, match="expected an index in"):
            row[index]
        with pytest.raises(IndexError, match="expected an index in"):
            row[index] = nn.Identity()
    with pytest.raises(IndexError, match="insert: expected an index in"):
        row.insert(len(row) + 1, nn.Identity())
    with pytest.raises(TypeError, match=r"insert: expected an nn.Module, got int"):
        row.insert(0, 3)
    with pytest.raises(TypeError, match=r"expected an nn.Module or None, got str"):
        row.append("relu")


def test_a_sequential_runs_in_order_and_its_slices_share_modules():
    class Add(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.n = n

        def forward(self, x):
            return x * 2 + self.n

    s = nn.Sequential(OrderedDict(a=Add(1), b=Add(10), c=Add(100)))
    x = kdl.Tensor(np.zeros(1))
    assert s(x).array[0] == 124
    assert s[:2](x).array[0] == 12
    assert s[1:].b is s.b and list(dict(s[1:].named_children())) == ["b", "c"]
    assert nn.Sequential()(x) is x


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 1, 1), nn.MaxPool1d(3, 2), nn.MaxPool3d((1, 2, 2)),
                                  nn.MaxPool2d(2, return_indices=True)])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_relu_before_max_pooling_gives_what_it_gives_there(pool, inplace, rng):
    shape = (3, 4, 9) if isinstance(pool, nn.MaxPool1d) else (2, 3, 5, 8, 9)[isinstance(pool, nn.MaxPool2d):]
    values = rng.integers(-3, 3, shape).astype(np.float32)  # ties among what is above 0, at 0 and below
    values.flat[:3] = np.nan, -np.inf, np.inf
    values[1, 0] = -1
    results = []
    for watched in (False, True):  # a hook keeps the order
        model = nn.Sequential(nn.Identity(), nn.ReLU(inplace), pool)
        if watched:
            model[1].register_forward_hook(lambda *_: None)
        x = kdl.tensor(values, requires_grad=True)
        y, indices = model(x * 1) if pool.return_indices else (model(x * 1), None)
        y.backward(kdl.tensor(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)))
        results.append([y.detach().numpy(), x.grad.numpy(), *([] if indices is None else [indices.numpy()])])
    for together, apart in zip(*results, strict=True):
        np.testing.assert_array_equal(together, apart)
    assert np.isnan(results[0][0]).any() and (results[0][0] == 0).any()


def test_a_relu_in_place_before_max_pooling_is_seen(rng):
    x = kdl.tensor(rng.standard_normal((1, 1, 4, 4)))
    nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2))(x)
    assert (x.numpy() >= 0).all()


def test_lists_and_dicts_are_not_called():
    for container in (nn.ModuleList(), nn.ModuleDict(), nn.ParameterList(), nn.ParameterDict()):
        with pytest.raises(NotImplementedError, match="forward is not defined"):
            container(1)


def test_module_dict():
    def build(cls):
        d = cls.ModuleDict({"a": cls.ReLU(), "b": cls.Tanh()})
        d["c"] = cls.Flatten()
        d.update({"a": cls.Sigmoid()})
        d.update([("e", cls.ELU())])
        d.pop("b")
        del d["c"]
        return d
    ours, theirs = build(nn), build(torch.nn)
    assert repr(ours) == repr(theirs)
    assert list(ours) == list(ours.keys()) == list(theirs) and len(ours) == 2 and "a" in ours and "b" not in ours
    assert [n for n, _ in ours.items()] == [n for n, _ in theirs.items()]
    assert repr(list(ours.values())) == repr(list(theirs.values()))
    ours.clear()
    assert not len(ours)
    with pytest.raises(KeyError):
        ours["a"]
    with pytest.raises(KeyError, match="already exists"):
        nn.ModuleDict({"keys": nn.ReLU()})


def test_parameter_list():
    def build(cls):
        make = kdl.Tensor if cls is nn else torch.from_numpy
        p = cls.ParameterList([make(np.ones((2, 3))), cls.Parameter(make(np.ones(4)))])
        p.append(make(np.zeros(())))
        p += ["text"]
        p[0] = make(np.zeros((1, 5)))
        return p
    ours, theirs = build(nn), build(torch.nn)
    assert repr(ours) == repr(theirs).replace("torch.", "")
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["0", "1", "2"]
    assert len(ours) == len(theirs) and ours[-1] == "text" and isinstance(ours[2], nn.Parameter)
    assert len(ours[1:3]) == 2 and ours[1:3][0] is ours[1]
    with pytest.raises(IndexError, match=r"expected an index in \[-4, 3\], got 4"):
        ours[4]


def test_parameter_dict():
    d = nn.ParameterDict({"w": kdl.Tensor(np.ones((2, 2))), "n": 3})
    assert isinstance(d["w"], nn.Parameter) and d["n"] == 3
    assert list(d.state_dict()) == ["w"] and list(d) == ["w", "n"]
    assert repr(d) == ("ParameterDict(\n    (w): Parameter containing: [float64 of size 2x2]\n"
                       "    (n): Object of type: int\n)")
    del d["w"]
    assert "w" not in d and not list(d.parameters())
    with pytest.raises(KeyError):
        d["w"]
