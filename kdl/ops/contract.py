"""Sums of products over named or numbered dimensions: einsum, tensordot, inner, kron, and products with an addend.

z[..., m, n] = sum over k of x[..., m, k] y[..., k, n], with the dimensions of the operands sorted into those kept of
both (a batch), of one (m, n) and of none (k), so that each pair is one matrix product; gradients are those of `matmul`.

Shapes: a dimension has one length wherever it is named; 1 broadcasts in einsum. All functions raise ValueError for
shapes that do not fit and TypeError for operands of several dtypes.
"""
from math import prod
from string import ascii_letters

from kdl.errors import expect
from kdl.ops.common import array_of, dimension
from kdl.ops.gemm import baddbmm, matmul, outer, weighted_sum
from kdl.ops.pointwise import in_place
from kdl.ops.shape import diagonal
from kdl.tensor import Tensor, method

__all__ = ["addbmm", "addmv", "addr", "chain_matmul", "einsum", "inner", "kron", "tensordot", "vdot"]


# --- by name ---
def einsum(*args):
    """The sum of products that an equation names: einsum("bij,bjk->bik", a, b), or with numbers as names,
    einsum(a, [0, 1], b, [1, 2], [0, 2]).

    A name that the output lacks is summed over, one that an operand repeats takes its diagonal, and "..." stands for
    the dimensions left over, which broadcast. Without "->" the output has the names that occur once, in alphabetical
    order, after "...". Several operands are contracted from the left. Raises ValueError, TypeError.
    """
    equation, operands = _equation(*args)
    names, output = _named_dimensions(equation, operands)
    lengths = {}
    for own, x in zip(names, operands):
        for name, n in zip(own, x.shape):
            known = lengths.setdefault(name, n)
            expect(n in (1, known) or known == 1, "einsum", "one length for a name", name=name, lengths=(known, n))
            lengths[name] = n if known == 1 else known
    parts = [_own(x, own, lengths) for x, own in zip(operands, names)]
    z, left = parts[0]
    for i, (y, right) in enumerate(parts[1:], 2):
        needed = set(output).union(*[own for _, own in parts[i:]])
        z, left = _pair(z, left, y, right, needed)
    z, left = _summed(z, left, set(output))
    return z.permute([left.index(name) for name in output])


def _equation(*args):
    """The equation and its operands, of which the sublist form gets one letter per number."""
    if args and isinstance(args[0], str):
        equation, operands = args[0].replace(" ", ""), args[1:]
        if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
            operands = operands[0]
    else:
        expect(len(args) > 1, "einsum", "an equation and operands, or operands and their dimensions", arguments=args)
        lists = [*args[1::2], *args[-1:]] if len(args) % 2 else args[1::2]
        texts = ["".join("..." if d is Ellipsis else _letter(d) for d in numbers) for numbers in lists]
        operands = args[:-1:2] if len(args) % 2 else args[::2]
        equation = ",".join(texts[:len(operands)]) + ("->" + texts[-1] if len(args) % 2 else "")
    expect(len(operands) > 0, "einsum", "at least one operand", equation=repr(equation))
    for x in operands:
        array_of("einsum", x, "operands")
    return equation, tuple(operands)


def _letter(number):
    expect(isinstance(number, int) and 0 <= number < len(ascii_letters), "einsum",
           f"dimensions named by numbers in [0, {len(ascii_letters)})", name=number)
    return sorted(ascii_letters)[number]


def _named_dimensions(equation, operands):
    """The names of every operand's dimensions and of the output's; those of "..." are numbers, from the end."""
    terms, arrow, output = equation.partition("->")
    terms = terms.split(",")
    expect(len(terms) == len(operands), "einsum", "one term per operand", equation=repr(equation),
           operands=len(operands))
    names, dots = [], 0
    for term, x in zip(terms, operands):
        before, ellipsis, after = term.partition("...")
        letters = before + after
        expect(all(c in ascii_letters for c in letters), "einsum", "letters and one '...'", term=repr(term))
        rest = x.ndim - len(letters)
        expect(rest == 0 or (ellipsis and rest > 0), "einsum", "a term with the operand's dimensions", term=repr(term),
               operand=x)
        dots = max(dots, rest)
        names.append([*before, *range(rest - 1, -1, -1), *after])
    if not arrow:
        letters = "".join(terms).replace(".", "")
        return names, [*range(dots - 1, -1, -1), *sorted(c for c in set(letters) if letters.count(c) == 1)]
    before, ellipsis, after = output.partition("...")
    output = [*before, *(range(dots - 1, -1, -1) if ellipsis else ()), *after]
    known = {name for own in names for name in own}
    expect(all(name in known or isinstance(name, int) for name in output) and len(set(output)) == len(output), "einsum",
           "an output that names dimensions of the operands once", equation=repr(equation))
    return names, output


def _own(x, names, lengths):
    """The operand with each of its names once (a diagonal where it was repeated), without dimensions to broadcast."""
    names = list(names)
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            expect(x.shape[first] == x.shape[second], "einsum", "one length for a name", name=name, operand=x)
            x = diagonal(x, 0, first, second)
            names = [n for i, n in enumerate(names) if i not in (first, second)] + [name]
    repeated = [i for i, name in enumerate(names) if x.shape[i] == 1 != lengths[name]]
    if repeated:
        x = x.squeeze(repeated)
        names = [name for i, name in enumerate(names) if i not in repeated]
    return x, names


def _summed(x, names, needed):
    """The sum over the names that nobody needs."""
    over = [i for i, name in enumerate(names) if name not in needed]
    return (x.sum(over), [name for name in names if name in needed]) if over else (x, names)


def _pair(x, left, y, right, needed):
    """The product of two operands over their common names, as one batched matrix product."""
    x, left = _summed(x, left, needed | set(right))
    y, right = _summed(y, right, needed | set(left))
    batch = [name for name in left if name in right and name in needed]
    over = [name for name in left if name in right and name not in needed]
    m, n = [name for name in left if name not in right], [name for name in right if name not in left]
    x, y = _arranged(x, left, batch, m, over), _arranged(y, right, batch, over, n)
    z = matmul(x.reshape(*_flat(x.shape, len(batch), len(m))), y.reshape(*_flat(y.shape, len(batch), len(over))))
    return z.reshape(*x.shape[:len(batch) + len(m)], *y.shape[len(batch) + len(over):]), batch + m + n


def _arranged(x, names, *groups):
    return x.permute([names.index(name) for group in groups for name in group])


def _flat(shape, batch, rows):
    """(batch, rows, columns) of a shape."""
    return prod(shape[:batch]), prod(shape[batch:batch + rows]), prod(shape[batch + rows:])


# --- by position ---
def tensordot(a, b, dims=2):
    """The sum of products over the last `dims` dimensions of a and the first of b, or over dims = (of a, of b).

    Dimensions of length 1 broadcast against others. Raises ValueError, TypeError, IndexError.
    """
    x, y = array_of("tensordot", a, "a"), array_of("tensordot", b, "b")
    if isinstance(dims, int):
        expect(0 <= dims <= min(x.ndim, y.ndim), "tensordot", "dims >= 0 that both operands have", dims=dims, a=a, b=b)
        dims = range(x.ndim - dims, x.ndim), range(dims)
    of_a, of_b = ([dims] if isinstance(dims, int) else list(dims) for dims in dims)
    expect(len(of_a) == len(of_b), "tensordot", "as many dims of a as of b", dims=(of_a, of_b))
    of_a, of_b = ([dimension("tensordot", d, t.ndim) for d in dims] for dims, t in ((of_a, a), (of_b, b)))
    names_a, names_b = list(range(x.ndim)), list(range(x.ndim, x.ndim + y.ndim))
    for i, j in zip(of_a, of_b):
        expect(x.shape[i] == y.shape[j] or 1 in (x.shape[i], y.shape[j]), "tensordot", "equal lengths to sum over", a=a,
               b=b, dims=(of_a, of_b))
        names_b[j] = names_a[i]
    kept = [n for d, n in enumerate(names_a) if d not in of_a] + [n for d, n in enumerate(names_b) if d not in of_b]
    return einsum(a, names_a, b, names_b, kept)


@method
def inner(input, other):
    """The sum of products over the last dimension of both: (..., K) and (..., K); a 0-d operand multiplies."""
    if array_of("inner", input).ndim == 0 or array_of("inner", other, "other").ndim == 0:
        return input * other
    expect(input.shape[-1] == other.shape[-1], "inner", "equal last dimensions", input=input, other=other)
    return tensordot(input, other, ([-1], [-1]))


@method
def vdot(input, other):
    """The sum of input[i] other[i], for two vectors of one length (of real numbers, `dot`)."""
    return input.dot(other)


@method
def kron(input, other):
    """The Kronecker product: input with every element replaced by itself times other.

    Shapes: (m, n, ...) and (i, j, ...) give (m i, n j, ...); the one with fewer dimensions gets leading ones.
    """
    a, b = array_of("kron", input), array_of("kron", other, "other")
    ndim = max(a.ndim, b.ndim)
    m, n = ((1,) * (ndim - x.ndim) + x.shape for x in (a, b))
    left = input.reshape([length for i in m for length in (i, 1)])
    right = other.reshape([length for j in n for length in (1, j)])
    return (left * right).reshape([i * j for i, j in zip(m, n)])


def chain_matmul(*matrices):
    """The product of matrices, in the order of least arithmetic. Raises ValueError."""
    matrices = matrices[0] if len(matrices) == 1 and isinstance(matrices[0], (tuple, list)) else matrices
    expect(len(matrices) > 0 and all(isinstance(m, Tensor) and m.ndim == 2 for m in matrices), "chain_matmul",
           "at least one matrix", matrices=[getattr(m, "shape", m) for m in matrices])
    sizes = [matrices[0].shape[0], *[m.shape[1] for m in matrices]]
    expect(all(m.shape[0] == n for m, n in zip(matrices, sizes)), "chain_matmul", "matrices whose sizes agree",
           shapes=[tuple(m.shape) for m in matrices])
    return in_best_order(matrices, sizes)


def in_best_order(matrices, sizes):
    """The product of matrices, the i-th sizes[i] by sizes[i + 1], in the order of least arithmetic."""
    cost = {(i, i): (0, i) for i in range(len(matrices))}  # (first, last) -> multiplications, the last of the left part
    for span in range(1, len(matrices)):
        for i in range(len(matrices) - span):
            j = i + span
            cost[i, j] = min((cost[i, k][0] + cost[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                             for k in range(i, j))

    def multiplied(i, j):
        k = cost[i, j][1]
        return matrices[i] if i == j else multiplied(i, k) @ multiplied(k + 1, j)
    return multiplied(0, len(matrices) - 1)


# --- with an addend ---
@method
def addmv(input, mat, vec, *, beta=1, alpha=1):
    """beta input + alpha mat vec, for (M, K) and (K); input broadcasts to (M), and is ignored if beta is 0."""
    return weighted_sum("addmv", input, mat.mv(vec), beta, alpha)


@method
def addbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta input + alpha sum over i of batch1[i] batch2[i], for (B, M, K) and (B, K, N)."""
    product = baddbmm(batch1.new_zeros(()), batch1, batch2, beta=0).sum(0)
    return weighted_sum("addbmm", input, product, beta, alpha)


@method
def addr(input, vec1, vec2, *, beta=1, alpha=1):
    """beta input + alpha vec1[i] vec2[j]; input broadcasts to (M, N), and is ignored if beta is 0."""
    return weighted_sum("addr", input, outer(vec1, vec2), beta, alpha)


for _function in (addmv, addbmm, addr):
    method(names=[f"{_function.__name__}_"])(in_place(_function))
