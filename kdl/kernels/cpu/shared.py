"""What `prange` in a kernel becomes: a loop that the threads of Numba's pool share.

Numba compiles such a loop as a function, behind a wrapper and in the kernel, and once more where a kernel is for the
calling thread alone. Here the body becomes a function of its own, compiled once, into its kernel; whether threads run
it is said at each call. The first step of LeNet-5 on two threads of a Zen 4, with nothing on disk, took 31 to 35 s
before, and takes 16.

    @jit                                    def scale_0(begin, end, factor, x):
    def scale(x, factor):                       for i in range(begin, end):
        for i in prange(x.size):      ->            x[i] *= factor
            x[i] *= factor
                                            def scale(launcher, parts, x, factor):
                                                share(scale_0, launcher, parts, x.size, (factor, x))

A body may read what the kernel named before, and names that it gives are its own: it has no result.
"""
import ast
import inspect
import textwrap
from functools import cache

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, compiler
from numba.core.targetconfig import ConfigStack
from numba.extending import intrinsic
from numba.np.ufunc.parallel import _launch_threads

_MOST = 2 ** 48 - 1  # rounds: a mask by which the compiler knows that no index counts from the end, so it vectorises
ALONE = 0, 1  # what a kernel gets before its own arguments: no launcher, one part


def team():
    """The launcher and the parts for a kernel that all threads share; the first call starts them."""
    return _launcher(), numba.get_num_threads()


@cache
def _launcher():
    _launch_threads()
    return llvm.address_of_symbol("numba_parallel_for")


def outlined(function):
    """The kernel whose loops may be shared, from one written with prange. Raises TypeError for a loop with a result."""
    source = textwrap.dedent(inspect.getsource(function))
    kernel = ast.increment_lineno(ast.parse(source), function.__code__.co_firstlineno - 1).body[0]
    outliner = _Outliner(kernel)
    kernel.decorator_list = []
    kernel.body = [outliner.visit(statement) for statement in kernel.body]
    kernel.args.args[:0] = [ast.arg("launcher_"), ast.arg("parts_")]
    made = {}
    module = ast.fix_missing_locations(ast.Module([*outliner.bodies, kernel], []))
    exec(compile(module, function.__code__.co_filename, "exec"), function.__globals__, made)
    kernel = made.pop(kernel.name)
    function.__globals__.update({name: njit(body) for name, body in made.items()}, share_=share)
    return kernel


class _Outliner(ast.NodeTransformer):
    """Makes a function of each loop over prange, and calls `share` in its place."""

    def __init__(self, kernel):
        self.name, self.bodies = kernel.name, []
        self.named = {a.arg for a in kernel.args.args} | _names(kernel, ast.Store)

    def visit_For(self, loop):
        if not (isinstance(loop.iter, ast.Call) and getattr(loop.iter.func, "id", None) == "prange"):
            return self.generic_visit(loop)
        name, inside = f"{self.name}_{len(self.bodies)}", ast.Module([loop.target, *loop.body])
        own = _names(inside, ast.Store)
        read = sorted((_names(inside, ast.Load) & self.named) - own)
        updates = [node.target for node in ast.walk(inside) if isinstance(node, ast.AugAssign)]
        if _names(inside, ast.Store, leave=updates) != own:
            raise TypeError(f"{self.name}: expected a loop over prange without a sum of all its rounds")
        total, = loop.iter.args
        body = ast.parse(f"def {name}(begin_, end_, {', '.join(read)}):\n"
                         f"    for i in range(begin_ & {_MOST}, end_ & {_MOST}): pass").body[0]
        body.body[0].target, body.body[0].body = loop.target, loop.body
        self.bodies.append(ast.copy_location(body, loop))
        call = ast.parse(f"share_({name}, launcher_, parts_, 0, ({''.join(f'{each}, ' for each in read)}))").body[0]
        call.value.args[3] = total
        return ast.copy_location(call, loop)


def _names(tree, context, leave=()):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, context)
            and node not in leave}


@intrinsic
def share(typing_context, body, launcher, parts, total, captured):
    """Run body(begin, end, *captured) for `parts` parts of 0 to total, on threads where there is a launcher."""
    kinds = (types.intp, types.intp, *[types.unliteral(kind) for kind in captured])

    def generate(context, builder, signature, arguments):
        _, launcher, parts, total, captured = arguments
        values = [context.cast(builder, value, kind, to) for value, kind, to in
                  zip(cgutils.unpack_tuple(builder, captured), signature.args[-1], kinds[2:], strict=True)]
        values = [ir.Constant(_CODE, 0), parts, total, *values]
        frame = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in values]))
        for at, value in enumerate(values):
            builder.store(value, cgutils.gep_inbounds(builder, frame, 0, at))
        task = _task(context, builder.module, body.dispatcher.py_func, kinds, frame.type)
        # the launcher gives part r the arguments + r * steps: the argument is r itself
        argument, step, count = [cgutils.alloca_once_value(builder, value) for value in (_NULL, _index(1), parts)]
        data = builder.bitcast(frame, _BYTES)
        with builder.if_else(builder.icmp_signed("==", launcher, _index(0))) as (alone, together):
            with alone:
                builder.call(task, [argument, count, step, data])
            with together:
                function = builder.inttoptr(launcher, _LAUNCHER.as_pointer())
                builder.call(function, [builder.bitcast(task, _BYTES), argument, count, step, data, _index(0),
                                        _index(1), builder.trunc(parts, _CODE)])
        code = builder.load(cgutils.gep_inbounds(builder, frame, 0, 0))
        with builder.if_then(builder.icmp_signed("!=", code, ir.Constant(_CODE, 0)), likely=False):
            context.call_conv.return_user_exc(builder, MemoryError, (f"no memory for {body.dispatcher.__name__}",))
        return context.get_dummy_value()
    return types.void(body, types.intp, types.intp, types.intp, captured), generate


_BYTES, _CODE = ir.IntType(8).as_pointer(), ir.IntType(32)
_INDEX, _NULL = ir.IntType(types.intp.bitwidth), ir.Constant(_BYTES, None)
_TASK = ir.FunctionType(ir.VoidType(), [_BYTES.as_pointer(), _INDEX.as_pointer(), _INDEX.as_pointer(), _BYTES])
_LAUNCHER = ir.FunctionType(ir.VoidType(), [_BYTES, *_TASK.args, _INDEX, _INDEX, _CODE])


def _index(value):
    return ir.Constant(_INDEX, value)


def _task(context, module, body, kinds, frame):
    """A function for the launcher: it runs some parts of the loop, of which `frame` says all; a code other than 0 there
    tells that one failed."""
    function = ir.Function(module, _TASK, module.get_unique_name(f"{body.__name__}.task"))
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    argument, count, _, data = function.args
    data = builder.bitcast(data, frame)
    _, parts, total, *values = [builder.load(cgutils.gep_inbounds(builder, data, 0, at))
                                for at in range(len(frame.pointee.elements))]
    first = builder.ptrtoint(builder.load(argument), _INDEX)
    begin, end = [builder.sdiv(builder.mul(total, part), parts)
                  for part in (first, builder.add(first, builder.load(count)))]
    callee = _compiled(context, module, body, kinds)
    status, _ = context.call_conv.call_function(builder, callee, types.none, kinds, [begin, end, *values])
    with builder.if_then(status.is_error, likely=False):
        builder.store(status.code, cgutils.gep_inbounds(builder, data, 0, 0))
    builder.ret_void()
    return function


def _compiled(context, module, body, kinds):
    """The body, compiled into the library that is being made: a function called as usual would make one of its own."""
    library, flags = context.active_code_library, ConfigStack().top().copy()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    result = compiler.compile_internal(context.typing_context, context, library, body, kinds, types.none, flags, {})
    callee = context.declare_function(module, result.fndesc)
    library.get_function(callee.name).linkage = "linkonce_odr"  # its one call takes it in, and no copy stays
    return callee
