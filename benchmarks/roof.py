"""The roof of this machine: the rate of fused multiply-adds, and of copying at several sizes, on all threads we have.

What a kernel could reach at best is the larger of FLOPs / rate and bytes / bandwidth. A copy of a few hundred kilobytes
stays in the cache, so an array of that size is measured against a copy of that size.
"""
import time

import numba
import numpy as np
from llvmlite import binding, ir
from numba import njit, prange, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

SIZES = [2**k for k in range(14, 28, 2)] + [2**28]  # bytes read and written
_CHAINS = 12     # independent sums: more than latency x throughput of any CPU
_STEPS = 4_000_000  # multiply-adds in a chain


def measure():
    """{"flops": {dtype: FLOP/s}, "copy": {bytes: bytes/s}}, the best of several rounds: a roof is not a median."""
    threads = numba.get_num_threads()
    clock = time.process_time if threads == 1 else time.perf_counter
    out = np.zeros(threads, np.float32)
    work = 2 * _CHAINS * _STEPS * _lanes() * threads
    flops = max(work / s for s in _rounds(lambda: _multiply_add(out), clock))
    return {"flops": {"float32": flops}, "copy": {size: _copy(size, clock) for size in SIZES}}


def bandwidth(roof, size):
    """Bytes per second of a copy that moves about as much: of the nearest size that was measured."""
    nearest = min(roof["copy"], key=lambda s: abs(np.log(s / max(size, 1))))
    return roof["copy"][nearest]


def seconds(roof, dtype, flops, size):
    """What work of so many FLOPs over so many bytes takes at least."""
    return max(flops / roof["flops"][dtype], size / bandwidth(roof, size))


def _copy(size, clock):
    x = np.ones(size // 8, np.float32)
    y = np.zeros_like(x)
    repeats = max(1, 2**28 // size)
    return max(repeats * size / s for s in _rounds(lambda: _copy_often(x, y, repeats), clock))


def _rounds(function, clock, count=9):
    function()
    for _ in range(count):
        start = clock()
        function()
        yield clock() - start


@njit(parallel=True)
def _copy_often(x, y, repeats):
    threads = numba.get_num_threads()
    for t in prange(threads):
        part = slice(x.size * t // threads, x.size * (t + 1) // threads)
        for _ in range(repeats):
            y[part] = x[part]


@njit(parallel=True)
def _multiply_add(out):
    for t in prange(out.size):
        out[t] = _chains(np.float32(0.999), np.float32(0.001))


def _lanes():
    """Floats in a vector register of this CPU."""
    features = binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx2") else 4


@intrinsic
def _chains(typingctx, a, b):
    """x <- a x + b, `_STEPS` times in `_CHAINS` vector registers at once; the sum, so that nothing is left out."""
    def generate(context, builder, signature, args):
        vector = ir.VectorType(ir.FloatType(), _lanes())
        fma = get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{_lanes()}f32")
        a, b = [_broadcast(builder, value, vector) for value in args]
        before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(ir.IntType(64))
        chains = [builder.phi(vector) for _ in range(_CHAINS)]
        following = [builder.call(fma, [x, a, b]) for x in chains]
        next_index = builder.add(index, index.type(1))
        for phi, start, then in zip([index, *chains], [index.type(0), *[a] * _CHAINS], [next_index, *following]):
            phi.add_incoming(start, before)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", next_index, index.type(_STEPS)), loop, after)
        builder.position_at_end(after)
        total = following[0]
        for x in following[1:]:
            total = builder.fadd(total, x)
        result = builder.extract_element(total, ir.IntType(32)(0))
        for lane in range(1, vector.count):
            result = builder.fadd(result, builder.extract_element(total, ir.IntType(32)(lane)))
        return result
    return types.float32(a, b), generate


def _broadcast(builder, value, vector):
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined),
                                  ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count))
