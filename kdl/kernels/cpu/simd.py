"""Vectors inside CPU kernels, for loops that the compiler does not vectorise by itself.

LANES float32 fill a register of the machine that Numba compiles for: 16 with AVX-512, 8 with AVX2, otherwise 4; as many
float64 take two. In a kernel a vector is a value, with + - * between two of one dtype. An array stands for the address
of its first element: `at` counts elements from there, whatever the shape, and nothing checks it. Integers in an array
are float32 in a vector, which has those below 2^24.

    @jit(parallel=False)
    def axpy(a, x, y):
        for i in range(0, x.size, LANES):
            here = first(x.size - i)
            store_masked(y, i, fma(broadcast(a), load_masked(x, i, here), load_masked(y, i, here)), here)

NUMBA_CPU_NAME=generic and NUMBA_CPU_FEATURES make Numba compile for a lesser machine; LANES follows, and so does the
disk cache. The functions named emit_ are the same vocabulary for kernels that are themselves written as LLVM
instructions (see tiles.py).
"""
import operator
import platform

import numba
from llvmlite import ir
from numba import types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic, models, overload, register_model

from kdl.kernels.cpu.launch import device_function

_features = get_host_cpu_features() if numba.config.CPU_FEATURES is None else numba.config.CPU_FEATURES
LANES = 16 if "+avx512f" in _features else 8 if "+avx2" in _features else 4
REGISTERS = 32 if LANES == 16 or platform.machine() in ("aarch64", "arm64") else 16

INDEX, FLOAT, NUMBER, BIT = ir.IntType(64), ir.FloatType(), ir.IntType(32), ir.IntType(1)
VECTOR, WIDE, MASK = [ir.VectorType(element, LANES) for element in (FLOAT, ir.DoubleType(), BIT)]
ZERO = ir.Constant(VECTOR, [0.0] * LANES)


def index(value):
    """A constant that counts elements."""
    return ir.Constant(INDEX, value)


# --- for an LLVM builder ---
def emit_load(builder, address, kind=VECTOR):
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=_alignment(kind))


def emit_store(builder, vector, address):
    builder.store(vector, builder.bitcast(address, vector.type.as_pointer()), align=_alignment(vector.type))


def emit_load_masked(builder, address, mask, kind=VECTOR):
    load = _function(builder, f"llvm.masked.load.{_suffix(kind)}.p0", kind, [kind.as_pointer(), NUMBER, MASK, kind])
    align, zero = ir.Constant(NUMBER, _alignment(kind)), ir.Constant(kind, None)
    return builder.call(load, [builder.bitcast(address, kind.as_pointer()), align, mask, zero])


def emit_store_masked(builder, vector, address, mask):
    kind = vector.type
    store = _function(builder, f"llvm.masked.store.{_suffix(kind)}.p0", ir.VoidType(),
                      [kind, kind.as_pointer(), NUMBER, MASK])
    align = ir.Constant(NUMBER, _alignment(kind))
    builder.call(store, [vector, builder.bitcast(address, kind.as_pointer()), align, mask])


def emit_broadcast(builder, scalar):
    kind = ir.VectorType(scalar.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(NUMBER, 0))
    return emit_shuffle(builder, one, one, [0] * LANES)


def emit_shuffle(builder, a, b, lanes):
    """The lanes of a (numbered from 0) and b (from LANES) in another order."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(NUMBER, len(lanes)), lanes))


def emit_fma(builder, a, b, c):
    """a b + c in one rounding where the machine can, as two instructions where it cannot (never as a library call)."""
    return builder.call(_function(builder, f"llvm.fmuladd.{_suffix(a.type)}", a.type, [a.type] * 3), [a, b, c])


def emit_first(builder, count):
    """The mask of lanes 0 to count - 1."""
    none, every = index(0), index(LANES)
    count = builder.select(builder.icmp_signed("<", count, every), count, every)
    count = builder.select(builder.icmp_signed(">", count, none), count, none)
    bits = builder.sub(builder.shl(index(1), count), index(1))
    return builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), MASK)


def emit_prefetch(builder, address, *, write=False):
    byte = ir.IntType(8).as_pointer()
    prefetch = _function(builder, "llvm.prefetch.p0", ir.VoidType(), [byte, NUMBER, NUMBER, NUMBER])
    arguments = [ir.Constant(NUMBER, value) for value in (int(write), 3, 1)]  # near, data
    builder.call(prefetch, [builder.bitcast(address, byte), *arguments])


def emit_transpose(builder, rows):
    """LANES vectors as the columns of the square whose rows they are, exchanging ever smaller blocks."""
    size = LANES // 2
    while size:
        low = [lane if lane // size % 2 == 0 else LANES + lane - size for lane in range(LANES)]
        high = [lane + size if lane // size % 2 == 0 else LANES + lane for lane in range(LANES)]
        rows = list(rows)
        for i in range(LANES):
            if i // size % 2 == 0:
                a, b = rows[i], rows[i + size]
                rows[i], rows[i + size] = emit_shuffle(builder, a, b, low), emit_shuffle(builder, a, b, high)
        size //= 2
    return rows


def emit_opaque(builder, integer):
    """The same integer, of which LLVM knows nothing: an empty instruction.

    Without it every address of an unrolled loop becomes a pointer of its own, and most of them live on the stack.
    """
    return builder.asm(ir.FunctionType(INDEX, [INDEX]), "", "=r,0", [integer], False)


def emit_loop(builder, count, step, carried, body):
    """Run carried = body(i, carried) for i = 0, step, ... below count, and return what is carried out."""
    before = builder.basic_block
    loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed(">", count, index(0)), loop, after)
    builder.position_at_end(loop)
    i, inside = builder.phi(INDEX), [builder.phi(value.type) for value in carried]
    result = body(i, inside)
    following, end = builder.add(i, index(step)), builder.basic_block
    for phi, start, value in zip([i, *inside], [index(0), *carried], [following, *result], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    left = [builder.phi(value.type) for value in carried]
    for phi, start, value in zip(left, carried, result, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, end)
    return left


def emit_address(context, builder, kind, array, at):
    """The address of an array's element, for the code of an intrinsic that takes the array, or where it begins."""
    if isinstance(kind, types.CPointer):
        return builder.gep(array, [at])
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _suffix(kind):
    """What LLVM's names of functions call a kind of vector."""
    return f"v{LANES}{'f32' if kind == VECTOR else 'f64' if kind == WIDE else kind.element}"


def _alignment(kind):
    return 1 if kind.element == ir.IntType(8) else 4


def _function(builder, name, result, arguments):
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


# --- in a kernel ---
class Vector(types.Type):
    """LANES numbers of a dtype, float32 or float64."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


class Mask(types.Type):
    """LANES truth values."""


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _layout(kind.dtype))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, MASK)


_mask, _wide = Mask("Mask"), Vector(types.float64)


def _layout(dtype):
    if isinstance(dtype, types.Integer):
        return ir.VectorType(ir.IntType(dtype.bitwidth), LANES)
    return WIDE if dtype == types.float64 else VECTOR


def _loaded(dtype):
    """The type of the vector that elements of a dtype become."""
    return Vector(types.float32 if isinstance(dtype, types.Integer) else dtype)


def _to_floats(builder, vector, dtype):
    if isinstance(dtype, types.Integer):
        return (builder.sitofp if dtype.signed else builder.uitofp)(vector, VECTOR)
    return vector


def _from_floats(builder, vector, dtype):
    if isinstance(dtype, types.Integer):
        return (builder.fptosi if dtype.signed else builder.fptoui)(vector, _layout(dtype))
    return vector


@intrinsic
def begin(typing, array):
    """Where an array begins, to take its place in the functions here, for as long as the array is there.

    A function of one's own that is given an array counts its references, which costs 10 ns at every call from within a
    loop, and a store and a load of every vector."""
    def generate(context, builder, signature, args):
        return context.make_array(array)(context, builder, args[0]).data
    return types.CPointer(array.dtype)(array), generate


@intrinsic
def load(typing, array, at):
    """array[at], ..., array[at + LANES - 1]."""
    def generate(context, builder, signature, args):
        address = emit_address(context, builder, signature.args[0], *args)
        return _to_floats(builder, emit_load(builder, address, _layout(array.dtype)), array.dtype)
    return _loaded(array.dtype)(array, types.intp), generate


@intrinsic
def store(typing, array, at, vector):
    """Make the vector array[at], ..., array[at + LANES - 1]."""
    def generate(context, builder, signature, args):
        address, vector = emit_address(context, builder, signature.args[0], *args[:2]), args[2]
        emit_store(builder, _from_floats(builder, vector, array.dtype), address)
    return types.void(array, types.intp, vector), generate


@intrinsic
def first(typing, count):
    """The mask of lanes 0 to count - 1: of none if count is negative, of all from LANES on."""
    def generate(context, builder, signature, args):
        return emit_first(builder, *args)
    return _mask(types.intp), generate


@intrinsic
def lanes_of(typing, bits):
    """The mask of lanes whose bit is 1, from the lowest on."""
    def generate(context, builder, signature, args):
        return builder.bitcast(builder.trunc(args[0], ir.IntType(LANES)), MASK)
    return _mask(types.uint32), generate


@intrinsic
def load_masked(typing, array, at, mask):
    """As `load`, with 0 in lanes outside the mask, which are not read."""
    def generate(context, builder, signature, args):
        address, kind = emit_address(context, builder, signature.args[0], *args[:2]), _layout(array.dtype)
        return _to_floats(builder, emit_load_masked(builder, address, args[2], kind), array.dtype)
    return _loaded(array.dtype)(array, types.intp, mask), generate


@intrinsic
def store_masked(typing, array, at, vector, mask):
    """As `store`, but elements outside the mask stay as they are."""
    def generate(context, builder, signature, args):
        address, vector = emit_address(context, builder, signature.args[0], *args[:2]), args[2]
        emit_store_masked(builder, _from_floats(builder, vector, array.dtype), address, args[3])
    return types.void(array, types.intp, vector, mask), generate


@intrinsic
def broadcast(typing, scalar):
    """A number in every lane."""
    def generate(context, builder, signature, args):
        return emit_broadcast(builder, *args)
    return Vector(scalar)(scalar), generate


@intrinsic
def widen(typing, vector):
    """The numbers in float64."""
    def generate(context, builder, signature, args):
        return args[0] if vector == _wide else builder.fpext(args[0], WIDE)
    return _wide(vector), generate


@intrinsic
def fma(typing, a, b, c):
    """a b + c."""
    def generate(context, builder, signature, args):
        return emit_fma(builder, *args)
    return a(a, b, c), generate


@intrinsic
def select(typing, mask, a, b):
    """a in the lanes of the mask, b in the others."""
    def generate(context, builder, signature, args):
        return builder.select(*args)
    return a(mask, a, b), generate


@intrinsic
def less(typing, a, b):
    """The mask of lanes where a < b; of none where one of them is NaN."""
    def generate(context, builder, signature, args):
        return builder.fcmp_ordered("<", *args)
    return _mask(a, b), generate


@intrinsic
def larger(typing, a, b):
    """The mask of lanes where a > b or a is NaN."""
    def generate(context, builder, signature, args):
        a, b = args
        return builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a))
    return _mask(a, b), generate


@intrinsic
def equal(typing, a, b):
    """The mask of lanes where a == b."""
    def generate(context, builder, signature, args):
        return builder.fcmp_ordered("==", *args)
    return _mask(a, b), generate


@intrinsic
def total(typing, vector):
    """The sum of the lanes, by halves."""
    def generate(context, builder, signature, args):
        (vector,), size = args, LANES
        while size > 1:
            size //= 2
            lanes = [(lane + size) % LANES for lane in range(LANES)]
            vector = builder.fadd(vector, emit_shuffle(builder, vector, vector, lanes))
        return builder.extract_element(vector, ir.Constant(NUMBER, 0))
    return vector.dtype(vector), generate


@intrinsic
def transpose(typing, source, at, pitch, target, to, target_pitch):
    """target[to + j target_pitch + i] = source[at + i pitch + j], for i, j < LANES."""
    def generate(context, builder, signature, args):
        source, at, pitch, target, to, target_pitch = args
        source = emit_address(context, builder, signature.args[0], source, at)
        target = emit_address(context, builder, signature.args[3], target, to)
        rows = [emit_load(builder, builder.gep(source, [builder.mul(pitch, index(i))])) for i in range(LANES)]
        for j, column in enumerate(emit_transpose(builder, rows)):
            emit_store(builder, column, builder.gep(target, [builder.mul(target_pitch, index(j))]))
    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate


@intrinsic
def transpose_part(typing, source, at, pitch, rows, columns, target, to, target_pitch):
    """The same for i < rows and j < columns; no other elements are read or written."""
    def generate(context, builder, signature, args):
        source, at, pitch, rows, columns, target, to, target_pitch = args
        source = emit_address(context, builder, signature.args[0], source, at)
        target = emit_address(context, builder, signature.args[5], target, to)

        def mask(i, count, lanes):
            return emit_first(builder, builder.select(builder.icmp_signed("<", index(i), count), lanes, index(0)))
        given = [emit_load_masked(builder, builder.gep(source, [builder.mul(pitch, index(i))]), mask(i, rows, columns))
                 for i in range(LANES)]
        for j, column in enumerate(emit_transpose(builder, given)):
            place = builder.gep(target, [builder.mul(target_pitch, index(j))])
            emit_store_masked(builder, column, place, mask(j, columns, rows))
    i = types.intp
    return types.void(source, i, i, i, i, target, i, i), generate


@intrinsic
def prefetch(typing, array, at):
    """Ask for the cache line of array[at], which may lie outside the array."""
    def generate(context, builder, signature, args):
        emit_prefetch(builder, emit_address(context, builder, signature.args[0], *args))
    return types.void(array, types.intp), generate


def _rearrange(name, doc, lanes):
    def combine(typing, a, b):
        def generate(context, builder, signature, args):
            return emit_shuffle(builder, *args, lanes)
        return a(a, b), generate
    combine.__name__, combine.__doc__ = name, doc
    return intrinsic(combine)


evens = _rearrange("evens", "a[0], a[2], ..., b[0], b[2], ...", list(range(0, 2 * LANES, 2)))
odds = _rearrange("odds", "a[1], a[3], ..., b[1], b[3], ...", list(range(1, 2 * LANES, 2)))
_zipped = [lane // 2 + lane % 2 * LANES for lane in range(2 * LANES)]
zip_low = _rearrange("zip_low", "a[0], b[0], a[1], b[1], ...: the first LANES of them", _zipped[:LANES])
zip_high = _rearrange("zip_high", "The rest of them, up to a[LANES - 1], b[LANES - 1].", _zipped[LANES:])


def _operate(name):
    @intrinsic
    def combine(typing, a, b):
        def generate(context, builder, signature, args):
            return getattr(builder, name)(*args)
        return a(a, b), generate

    def choose(a, b):
        if isinstance(a, Vector) and isinstance(b, Vector):
            return lambda a, b: combine(a, b)
    return choose


for _operator, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    overload(_operator)(_operate(_name))


# --- parts of a vector ---
@device_function
def load_part(array, at, count):
    """A vector of which the first `count` lanes matter: no others are read where that is fewer than LANES."""
    return load(array, at) if count >= LANES else load_masked(array, at, first(count))


@device_function
def store_part(array, at, vector, count):
    """Store the first `count` lanes, or all where that is more."""
    if count >= LANES:
        store(array, at, vector)
    else:
        store_masked(array, at, vector, first(count))
