"""States of modules: saving, loading, what does not fit, and the hooks around both, as torch's."""
import copy
import pickle

import numpy as np
import pytest

import kdl
from kdl import nn
from tests.test_nn_module import network, torch


@pytest.fixture
def net():
    return network(nn)


@pytest.fixture
def theirs():
    return network(torch.nn)


def test_a_state_shares_memory_and_is_detached(net):
    state = net.state_dict()
    assert not state["offset"].requires_grad and state["offset"].array is net.offset.array
    assert net.state_dict(keep_vars=True)["offset"] is net.offset


def test_a_state_goes_into_another_network(net):
    other = network(nn)
    for p in other.parameters():
        p.array[...] = -1
    keep = [p.array for p in other.parameters()]
    result = other.load_state_dict(net.state_dict())
    assert result.missing_keys == result.unexpected_keys == []
    for p, q, array in zip(other.parameters(), net.parameters(), keep, strict=True):
        np.testing.assert_array_equal(p.array, q.array)
        assert p.array is array and p.array is not q.array


def test_a_state_of_torch_fits(net, theirs):
    state = {name: value.numpy() + 1 for name, value in theirs.state_dict().items()}
    net.load_state_dict(state)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.array, state[name])


def test_values_are_converted_to_the_parameters_dtype_and_layout():
    m = nn.Module()
    m.w = nn.Parameter(np.zeros((2, 3, 2, 2), np.float32).transpose(0, 3, 1, 2))
    strides = m.w.array.strides
    value = np.random.default_rng(0).standard_normal(m.w.array.shape)
    m.load_state_dict({"w": value})
    np.testing.assert_array_equal(m.w.array, value.astype(np.float32))
    assert m.w.array.strides == strides


def test_assign_takes_the_tensors_over(net):
    state = {name: kdl.Tensor(value.array.copy()) for name, value in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    assert net.offset.array is state["offset"].array
    assert isinstance(net.offset, nn.Parameter) and net.offset.requires_grad


def test_a_state_that_does_not_fit_is_refused_line_by_line_and_whole(net):
    state = {name: kdl.Tensor(value.array + 5) for name, value in net.state_dict().items()}
    state["first.weight"] = kdl.Tensor(np.zeros((3, 1)))
    state["blocks.0.wieght"] = state.pop("blocks.0.weight")
    state["offset"] = "zero"
    before = {name: value.array.copy() for name, value in net.state_dict().items()}
    with pytest.raises(RuntimeError) as refused:
        net.load_state_dict(state)
    assert str(refused.value) == """\
load_state_dict: the state does not fit Net, nothing was loaded:
  missing key: blocks.0.weight (3,)
  unexpected key: blocks.0.wieght (3,)
  shape of offset: the module has (3,), the state a str, which is not a tensor
  shape of first.weight: the module has (3,), the state (3, 1)"""
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.array, before[name])
    with pytest.raises(TypeError, match="expected a dict, got state_dict list"):
        net.load_state_dict([])


def test_a_state_may_be_incomplete_when_not_strict(net):
    result = net.load_state_dict({"offset": kdl.Tensor(np.full(3, 9.0)), "extra": kdl.Tensor(np.ones(1))}, strict=False)
    assert "blocks.0.weight" in result.missing_keys and result.unexpected_keys == ["extra"]
    assert (net.offset.array == 9).all()
    with pytest.raises(RuntimeError, match="shape of offset"):
        net.load_state_dict({"offset": kdl.Tensor(np.ones(4))}, strict=False)


# --- hooks and more than tensors ---
def watched(cls):
    """A network with every hook on its first layer and on itself, and the calls of the hooks."""
    net, calls = cls.Sequential(cls.Linear(2, 2, bias=False), cls.ReLU(), cls.Linear(2, 1, bias=False)), []
    for m in (net, net[0]):
        name = type(m).__name__
        m.register_state_dict_pre_hook(lambda m, prefix, keep_vars, name=name: calls.append(
            ("saving", name, prefix, keep_vars)))
        m.register_state_dict_post_hook(lambda m, state, prefix, metadata, name=name: calls.append(
            ("saved", name, list(state), prefix, metadata)))
        m.register_load_state_dict_pre_hook(lambda m, state, prefix, metadata, strict, *found, name=name: calls.append(
            ("loading", name, sorted(state), prefix, metadata.get("version"), found)))
        m.register_load_state_dict_post_hook(lambda m, keys, name=name: calls.append(
            ("loaded", name, keys.missing_keys, keys.unexpected_keys)))
    return net, calls


def test_hooks_around_states_are_torchs():
    (ours, our_calls), (theirs, their_calls) = watched(nn), watched(torch.nn)
    for net in (ours, theirs):
        state = net.state_dict()
        assert state._metadata["0"] == {"version": 1}
        net.state_dict(prefix="net.", keep_vars=True)
        net.load_state_dict(state)
        net.load_state_dict({**state}, strict=False)
    assert our_calls == their_calls


def renamed_case(cls):
    """A pre hook that knows an older name, and a post hook that excuses what is missing."""
    net = cls.Sequential(cls.Linear(2, 2), cls.Linear(2, 2))
    make = kdl.tensor if cls is nn else torch.tensor

    def rename(module, state, prefix, metadata, strict, missing, unexpected, errors):
        assert module is net[0] and prefix == "0." and strict
        state[prefix + "weight"] = state.pop(prefix + "w")
    handles = [net[0].register_load_state_dict_pre_hook(rename),
               net.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())]
    state = {"0.w": make([[1.0, 2.0], [3.0, 4.0]]), "0.bias": make([5.0, 6.0])}
    keys = net.load_state_dict(state)
    assert net[0].weight.tolist() == [[1, 2], [3, 4]] and "0.w" in state, "the caller's dict stays as it was"
    for handle in handles:
        handle.remove()
    with pytest.raises(RuntimeError, match=r"0\.w"):
        net.load_state_dict(state)
    return keys.missing_keys, keys.unexpected_keys


def test_hooks_rename_and_excuse_as_torchs():
    assert renamed_case(nn) == renamed_case(torch.nn) == ([], [])


def test_what_hooks_may_not_do():
    net = nn.Linear(1, 1)
    net.register_load_state_dict_post_hook(lambda module, keys: None)
    with pytest.raises(RuntimeError, match=r"Linear, what fits was loaded:\n  missing key: bias \(1,\)"):
        net.load_state_dict({"weight": kdl.full((1, 1), 7.0)})
    assert net.weight.item() == 7
    net.register_load_state_dict_pre_hook(lambda *args: args[-1].append("too old"))
    with pytest.raises(RuntimeError, match=r"nothing was loaded:\n  too old"):
        net.load_state_dict({"weight": kdl.zeros(1, 1), "bias": kdl.zeros(1)})
    assert net.weight.item() == 7
    net = nn.Identity()
    net.register_state_dict_post_hook(lambda *args: 3)
    net.register_load_state_dict_post_hook(lambda *args: 3)
    with pytest.raises(RuntimeError, match="return None"):
        net.state_dict()
    with pytest.raises(AssertionError, match="return None"):
        net.load_state_dict({})


def extra_case(cls):
    class Counter(cls.Module):
        def __init__(self):
            super().__init__()
            self.seen = 0

        def get_extra_state(self):
            return {"seen": self.seen}

        def set_extra_state(self, state):
            self.seen = state["seen"]

    net, other = (cls.ModuleDict({"counter": Counter(), "layer": cls.Identity()}) for _ in range(2))
    net["counter"].seen = 3
    state = net.state_dict()
    other.load_state_dict(state)
    keys = other.load_state_dict({"layer._extra_state": 1}, strict=False)
    with pytest.raises(RuntimeError, match=r"counter\._extra_state"):
        other.load_state_dict({})
    return dict(state), other["counter"].seen, keys.missing_keys, keys.unexpected_keys


def test_states_hold_more_than_tensors_as_torchs():
    assert extra_case(nn) == extra_case(torch.nn)
    for call in (nn.Module().get_extra_state, lambda: nn.Module().set_extra_state({})):
        with pytest.raises(RuntimeError, match="_extra_state is not defined"):
            call()


def test_a_state_is_added_to_another():
    destination = {"epoch": 3}
    with pytest.raises(AttributeError):  # as torch's: a plain dict takes no metadata
        nn.Linear(1, 1).state_dict(destination=destination)
    state = nn.Linear(1, 1).state_dict(prefix="a.")
    assert nn.Linear(1, 1, bias=False).state_dict(destination=state, prefix="b.") is state
    assert list(state) == ["a.weight", "a.bias", "b.weight"]
    assert list(state._metadata) == ["a", "b"] and list(copy.deepcopy(state)) == list(state)


def test_hooks_live_on_in_copies():
    for copied in (copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))):
        net = nn.utils.weight_norm(nn.Linear(2, 2))
        other = copied(net)
        newer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
        other.load_state_dict(newer.state_dict())
        x = kdl.ones(1, 2)
        assert other(x).tolist() == newer(x).tolist() != net(x).tolist()


def norms(module, op, newer):
    return getattr(module.nn.utils.parametrizations if newer else module.nn.utils, op)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("ours_newer", [False, True])
@pytest.mark.parametrize("theirs_newer", [False, True])
@pytest.mark.parametrize("op", ["weight_norm", "spectral_norm"])
def test_normed_weights_take_torchs_states_of_either_form(op, theirs_newer, ours_newer):
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.ConvTranspose2d(3, 2, 3)).double()
    ours = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 2, 3)).double()
    for i in range(2):
        norms(torch, op, theirs_newer)(theirs[i])
        norms(kdl, op, ours_newer)(ours[i])
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 5))
    theirs(torch.from_numpy(x))
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    keys = ours.load_state_dict(state)
    assert keys.missing_keys == keys.unexpected_keys == []
    np.testing.assert_allclose(ours.eval()(kdl.Tensor(x)).detach().array,
                               theirs.eval()(torch.from_numpy(x)).detach().numpy(), rtol=1e-10)


def test_the_states_of_other_forms_fit_no_more_when_the_norm_is_taken_away():
    for newer, remove in ((True, lambda m: nn.utils.parametrize.remove_parametrizations(m, "weight")),
                          (False, nn.utils.remove_weight_norm)):
        net, other = (norms(kdl, "weight_norm", form)(nn.Linear(2, 2)) for form in (newer, not newer))
        state = other.state_dict()
        net.load_state_dict(state)
        remove(net)
        with pytest.raises(RuntimeError, match="unexpected key"):
            net.load_state_dict(state)
