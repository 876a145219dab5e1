"""Module: registration, walking, conversion, repr and errors."""
import copy
import gc
import pickle
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import kdl
from kdl import nn

torch = pytest.importorskip("torch", reason="modules are compared with torch: pip install 'kdl-kernels[test]'")


def filled(cls, *shape):
    """A parameter with the values 0, 1, 2 ..."""
    a = np.arange(np.prod(shape, dtype=int), dtype=np.float64).reshape(shape)
    return nn.Parameter(a) if cls is nn else torch.nn.Parameter(torch.from_numpy(a))


def scale_layer(cls):
    """The same module for kdl.nn and torch.nn: a parameter, a persistent buffer, one that is not, and no bias."""
    class Scale(cls.Module):
        def __init__(self, n):
            super().__init__()
            self.weight = filled(cls, n)
            self.register_parameter("bias", None)
            make = kdl.Tensor if cls is nn else torch.from_numpy
            self.register_buffer("count", make(np.zeros(1, np.int64)))
            self.register_buffer("cache", make(np.zeros(2)), persistent=False)

        def forward(self, x, gain=1.0):
            return x * self.weight * gain
    return Scale


def network(cls):
    Scale = scale_layer(cls)

    class Net(cls.Module):
        def __init__(self):
            super().__init__()
            self.first = Scale(3)
            self.blocks = cls.ModuleList([Scale(3), Scale(3)])
            self.tied = self.first
            self.nothing = None
            self.offset = filled(cls, 3)

        def forward(self, x):
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
            return self.tied(x, gain=2.0) + self.offset
    return Net()


@pytest.fixture
def net():
    return network(nn)


@pytest.fixture
def theirs():
    return network(torch.nn)


# --- registration and walking ---
def test_walks_give_torchs_names_in_torchs_order(net, theirs):
    for method in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [n for n, _ in getattr(net, method)()] == [n for n, _ in getattr(theirs, method)()], method
    for method in ("named_parameters", "named_buffers", "named_modules"):
        options = {"prefix": "net", "remove_duplicate": False}
        assert [n for n, _ in getattr(net, method)(**options)] == [n for n, _ in getattr(theirs, method)(**options)]
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["offset"]
    assert list(net.state_dict()) == list(theirs.state_dict())
    assert list(net.state_dict(prefix="net.")) == list(theirs.state_dict(prefix="net."))
    assert len(list(net.modules())) == len(list(theirs.modules()))
    assert len(list(net.parameters())) == len(list(net.buffers())) // 2 + 1 == 4


def test_repr_is_torchs(net, theirs):
    assert repr(net) == repr(theirs)


def test_assigning_moves_a_name_from_one_table_to_another():
    m = nn.Module()
    m.x = 3
    m.x = nn.Parameter(np.ones(2))
    assert "x" in m._parameters and "x" not in m.__dict__
    m.x = nn.Identity()
    assert "x" in m._modules and "x" not in m._parameters
    m.x = None
    assert m.x is None and "x" in m._modules
    del m.x
    assert not hasattr(m, "x")
    m.register_buffer("b", kdl.Tensor(np.zeros(1)), persistent=False)
    m.b = kdl.Tensor(np.ones(1))
    assert "b" in m._buffers and "b" not in m.state_dict()
    m.b = nn.Parameter(np.ones(1))
    assert "b" in m.state_dict()
    m.t = kdl.Tensor(np.ones(1))
    assert "t" in m.__dict__, "a plain tensor is an ordinary attribute"
    assert {"b", "t"} <= set(dir(m))


def test_wrong_assignments_are_refused_as_in_torch():
    m = nn.Module()
    m.p, m.m = nn.Parameter(np.ones(2)), nn.Identity()
    m.register_buffer("b", kdl.Tensor(np.ones(1)))
    with pytest.raises(TypeError, match=r"Module.p: expected an nn.Parameter or None, got Tensor"):
        m.p = kdl.Tensor(np.ones(2))
    with pytest.raises(TypeError, match=r"Module.m: expected an nn.Module or None, got int"):
        m.m = 3
    with pytest.raises(TypeError, match=r"Module.b: expected a Tensor or None, got float"):
        m.b = 1.0
    for name, message in (("", "not empty"), ("a.b", "without '.'"), ("forward", "already exists")):
        for register in (m.register_parameter, m.register_buffer, m.add_module):
            with pytest.raises(KeyError, match=message):
                register(name, None)
    with pytest.raises(TypeError, match="name to be a string"):
        m.add_module(3, nn.Identity())
    with pytest.raises(ValueError, match="a leaf"):
        m.register_parameter("q", _recorded())


def _recorded():
    p = nn.Parameter(np.ones(2))
    q = nn.Parameter(np.ones(2))
    q.grad_fn = (p * 2).grad_fn
    return q


def test_forgetting_super_init_is_said():
    class Net(nn.Module):
        def __init__(self, part):
            self.part = part

    for part in (nn.Parameter(np.ones(1)), nn.Identity()):
        with pytest.raises(AttributeError, match=r"Net: super\(\).__init__\(\) has to be called before"):
            Net(part)
    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\) has to be called before '_hooks' is used"):
        Net(3)(kdl.Tensor(np.ones(1)))


def test_missing_attributes_are_named():
    with pytest.raises(AttributeError, match="'Identity' object has no attribute 'weigth'"):
        assert nn.Identity().weigth
    with pytest.raises(NotImplementedError, match="forward is not defined"):
        nn.Module()(1)


def test_parts_by_path(net):
    assert net.get_submodule("blocks.1") is net.blocks[1]
    assert net.get_submodule("") is net
    assert net.get_parameter("blocks.0.weight") is net.blocks[0].weight
    assert net.get_buffer("first.count") is net.first.count
    with pytest.raises(AttributeError, match=r"ModuleList has no submodule '7' \(on the path 'blocks.7'\)"):
        net.get_submodule("blocks.7")
    with pytest.raises(AttributeError, match="no parameter 'count'"):
        net.get_parameter("first.count")


def test_apply_goes_from_the_leaves_up(net):
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Scale", "Scale", "Scale", "ModuleList", "Net"]


def test_train_and_eval(net):
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train().blocks[1].training
    with pytest.raises(ValueError, match="expected mode to be True or False"):
        net.train("yes")


def test_gradients_as_a_whole(net):
    net(kdl.Tensor(np.ones(3))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(not p.grad.array.any() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(kdl.Tensor(np.ones(3))).requires_grad


def test_a_network_computes_what_torchs_does(net, theirs):
    x = np.array([1.0, -2.0, 3.0])
    ours = net(kdl.Tensor(x))
    other = theirs(torch.from_numpy(x))
    np.testing.assert_allclose(ours.detach().array, other.detach().numpy())
    ours.sum().backward()
    other.sum().backward()
    for (name, p), q in zip(net.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.array, q.grad.numpy(), err_msg=name)


# --- converting, copying ---
def test_dtypes(net):
    p = net.offset
    for method, dtype in (("half", kdl.float16), ("bfloat16", kdl.bfloat16), ("float", kdl.float32),
                          ("double", kdl.float64)):
        assert getattr(net, method)() is net
        assert {q.dtype for q in net.parameters()} == {dtype}
        assert net.first.cache.dtype == dtype and net.first.count.dtype == kdl.int64
    assert net.offset is p, "an optimiser that holds the parameter must still hold it"
    assert net.to(kdl.float16, non_blocking=True).offset.dtype == kdl.float16
    assert net.to(kdl.Tensor(np.zeros(1))).offset.dtype == kdl.float64
    assert net.to("cpu", kdl.float32).cpu().offset.dtype == kdl.float32
    with pytest.raises(TypeError, match=r"Module.to: expected a floating-point dtype, got int64"):
        net.to(kdl.int64)


def test_gradients_are_converted_too(net):
    net(kdl.Tensor(np.ones(3))).sum().backward()
    net.float()
    assert net.offset.grad.dtype == kdl.float32


def test_memory_format_changes_what_has_its_dimensions():
    m = nn.Module()
    m.w, m.b = nn.Parameter(np.zeros((2, 3, 4, 5))), nn.Parameter(np.zeros(2))
    m.to(memory_format=kdl.channels_last)
    assert m.w.is_contiguous(memory_format=kdl.channels_last) and not m.w.is_contiguous()
    m.to(memory_format=kdl.contiguous_format)
    assert m.w.is_contiguous()


def test_copies_are_independent_and_keep_what_is_tied(net):
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(nn.Sequential(nn.Identity(), nn.Flatten())))):
        assert repr(other) != ""
    other = copy.deepcopy(net)
    assert other.tied is other.first
    other.offset.array[...] = 100
    assert net.offset.array[0] == 0
    assert isinstance(other.offset, nn.Parameter)


def test_a_module_is_freed_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        m = nn.Sequential(nn.Identity())
        seen = weakref.ref(m[0])
        m(kdl.Tensor(np.ones(1)))
        del m
        assert seen() is None
    finally:
        gc.enable()


# --- errors from inside ---
def test_an_error_says_in_which_layer_it_was_raised():
    class Bad(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(OrderedDict(flat=nn.Flatten(), bad=Bad()))

        def forward(self, x):
            return self.features(x)

    x = kdl.Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match="no") as raised:
        Net()(x)
    assert raised.value.__notes__ == ["in layer 'features.bad' of Net (Bad)"]
    with pytest.raises(ValueError, match="no") as raised:
        Bad()(x)
    assert raised.value.__notes__ == ["in Bad"]


# --- parameters ---
def test_parameters():
    t = kdl.Tensor(np.ones(2))
    p = nn.Parameter(t)
    assert p.array is t.array and p.requires_grad and p.is_leaf
    assert repr(p) == "Parameter containing:\ntensor([1., 1.], dtype=float64, requires_grad=True)"
    assert nn.Parameter().shape == (0,)
    assert not nn.Parameter(np.arange(3), requires_grad=False).requires_grad
    with pytest.raises(RuntimeError, match="only floating-point tensors can require gradients, got int64"):
        nn.Parameter(np.arange(3))
    with pytest.raises(TypeError, match="expected a tensor or an array, got list"):
        nn.Parameter([1.0])
    p.tag = "decay"
    assert copy.deepcopy(p).array is not p.array


def test_buffers_by_assignment_are_torchs():
    def names(cls, make):
        m = cls.Module()
        m.a, m.b = cls.Buffer(make([1.0])), cls.Buffer(make([2.0]), persistent=False)
        m.p = cls.Parameter(make([3.0]))
        with pytest.raises(TypeError):
            m.p = cls.Buffer(make([4.0]))
        m.b = make([5.0])
        return ([n for n, _ in m.named_buffers()], list(m.state_dict()), [n for n, _ in m.named_parameters()],
                m.b.tolist(), m.a.requires_grad)
    assert names(nn, kdl.tensor) == names(torch.nn, torch.tensor)
    assert nn.Buffer().shape == (0,)
    with pytest.raises(TypeError, match="Buffer: expected a tensor or an array, got data list"):
        nn.Buffer([1.0])


def test_putting_a_module_at_a_path(net):
    new = nn.Identity()
    net.set_submodule("blocks.1", new, strict=True)
    net.set_submodule("first.more", new)
    net.set_submodule("last", new)
    assert net.blocks[1] is net.first.more is net.last is new
    with pytest.raises(AttributeError, match="no submodule 'other'"):
        net.set_submodule("blocks.other", new, strict=True)
    for target in ("offset", "nowhere.at.all"):
        with pytest.raises(AttributeError):
            net.set_submodule(target, new)
    for target, module in (("", new), ("last", 3)):
        with pytest.raises(ValueError, match="set_submodule: expected"):
            net.set_submodule(target, module)


def test_types_of_all_tensors(net, theirs):
    net.type(kdl.float16), theirs.type(torch.float16)
    assert {x.dtype.name for x in net.buffers()} == {str(x.dtype)[6:] for x in theirs.buffers()} == {"float16"}
