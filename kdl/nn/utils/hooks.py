"""The older forms of weight norm and spectral norm: the weight is an attribute that a hook sets before every call.

States hold weight_g and weight_v, or weight_orig, weight_u and weight_v, as torch.nn.utils.weight_norm and
spectral_norm have them; what is computed stands in `parametrizations`.
"""
from kdl.autograd import no_grad
from kdl.errors import expect
from kdl.nn.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from kdl.nn.parameter import Parameter
from kdl.nn.utils.parametrizations import SPECTRAL_NORM_NAMES, WEIGHT_NORM_NAMES, as_matrix, lengths, power_iteration
from kdl.nn.utils.parametrize import rename
from kdl.ops.gemm import dot, mv
from kdl.ops.norm import normalize

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _Hook:
    """A hook that computes `module.<name>` before every call of the module."""

    def attach(self, module):
        """Give the module its new parameters, in the place of the old one, and the hook."""
        expect(_find(module, type(self), self.name) is None, self.op, f"no other {self.op} on {self.name!r}",
               module=type(module).__name__)
        weight = module._parameters[self.name]
        del module._parameters[self.name]
        self.split(module, weight)
        setattr(module, self.name, weight.detach())
        self.handles = [module.register_forward_pre_hook(self),
                        module.register_load_state_dict_pre_hook(self.take_newer_names)]
        return module

    def __call__(self, module, args):
        setattr(module, self.name, self.compute(module, module.training))

    def take_newer_names(self, module, state, prefix, *_):
        """A state that the form in `parametrizations` wrote fits too."""
        rename(state, {f"{prefix}parametrizations.{self.name}.{name.format(0)}": f"{prefix}{self.name}{ending}"
                       for name, ending in self.names.items()})

    def detach(self, module):
        """Make the weight of now a parameter again."""
        with no_grad():
            weight = self.compute(module, False)
        delattr(module, self.name)
        for ending in self.names.values():
            delattr(module, self.name + ending)
        module.register_parameter(self.name, Parameter(weight.detach()))
        for handle in self.handles:
            handle.remove()
        return module


class _WeightNorm(_Hook):
    op, names = "weight_norm", WEIGHT_NORM_NAMES

    def __init__(self, name, dim):
        self.name, self.dim = name, -1 if dim is None else dim

    def split(self, module, weight):
        module.register_parameter(self.name + "_g", Parameter(lengths(weight, self.dim).detach()))
        module.register_parameter(self.name + "_v", Parameter(weight.detach()))

    def compute(self, module, training):
        g, v = (getattr(module, self.name + ending) for ending in self.names.values())
        return v * (g / lengths(v, self.dim))


class _SpectralNorm(_Hook):
    op, names = "spectral_norm", SPECTRAL_NORM_NAMES

    def __init__(self, name, n_power_iterations, dim, eps):
        expect(n_power_iterations > 0, "spectral_norm", "n_power_iterations > 0", n_power_iterations=n_power_iterations)
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def split(self, module, weight):
        module.register_parameter(self.name + "_orig", weight)
        for ending, size in zip(("_u", "_v"), as_matrix(weight, self.dim).shape, strict=True):
            vector = weight.detach().new_empty(size).normal_(0, 1)
            module.register_buffer(self.name + ending, normalize(vector, dim=0, eps=self.eps))

    def compute(self, module, training):
        weight, u, v = (getattr(module, self.name + ending) for ending in self.names.values())
        matrix = as_matrix(weight, self.dim)
        if training:
            v, u = power_iteration(matrix.detach().t(), v, u, self.n_power_iterations, self.eps)
            setattr(module, self.name + "_u", u)
            setattr(module, self.name + "_v", v)
        return weight / dot(u, mv(matrix, v))


def weight_norm(module, name="weight", dim=0):
    """Learn the lengths (weight_g) and directions (weight_v) of a weight; the newer form is in `parametrizations`."""
    return _WeightNorm(name, dim).attach(module)


def remove_weight_norm(module, name="weight"):
    """Make the weight one parameter again; returns the module. Raises ValueError."""
    return _found(module, _WeightNorm, name).detach(module)


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a weight (weight_orig) by its largest singular value; the newer form is in `parametrizations`."""
    if dim is None:
        dim = int(isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)))
    return _SpectralNorm(name, n_power_iterations, dim, eps).attach(module)


def remove_spectral_norm(module, name="weight"):
    """Make the weight one parameter again; returns the module. Raises ValueError."""
    return _found(module, _SpectralNorm, name).detach(module)


def _find(module, kind, name):
    """The hook of a kind on a tensor of the module, or None."""
    calls = [hook.call for hook in (module._hooks or {}).values()]
    return next((call for call in calls if type(call) is kind and call.name == name), None)


def _found(module, kind, name):
    hook = _find(module, kind, name)
    expect(hook is not None, f"remove_{kind.op}", f"{kind.op} on {name!r}", module=type(module).__name__)
    return hook
