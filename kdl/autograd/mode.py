"""Whether operations are recorded: a flag per thread, and the context managers and decorators that switch it."""
import inspect
import threading
from functools import wraps


class _Mode(threading.local):
    enabled = True
    inference = False
    low = {}  # by kind of device, the dtype that `autocast` computes in
    keep_casts = True
    casts = None


current = _Mode()


def is_grad_enabled():
    """Whether operations are being recorded in this thread."""
    return current.enabled


def is_inference_mode_enabled():
    """Whether this thread is inside `inference_mode`."""
    return current.inference


class _Switch:
    """A context manager that sets the mode inside its block, and a decorator that does so inside a function."""

    def __init__(self, mode):
        self.mode = mode
        self.before = []  # a stack: the same object may be entered again inside its own block

    def __enter__(self):
        self.before.append(current.enabled)
        current.enabled = self.mode
        return self

    def __exit__(self, *exception):
        current.enabled = self.before.pop()

    def copy(self):
        """A switch of its own for one call of a decorated function."""
        return _Switch(self.mode)

    def __call__(self, function):
        if inspect.isgeneratorfunction(function):
            return self._generator(function)

        @wraps(function)
        def wrapped(*args, **kwargs):
            with self.copy():
                return function(*args, **kwargs)
        return wrapped

    def _generator(self, function):
        """The mode holds while the generator runs, and not in between, where its caller runs."""
        @wraps(function)
        def wrapped(*args, **kwargs):
            generator = function(*args, **kwargs)
            resume, value = generator.send, None
            while True:
                try:
                    with self.copy():
                        value = resume(value)
                except StopIteration as stop:
                    return stop.value
                try:
                    value, resume = (yield value), generator.send
                except GeneratorExit:
                    with self.copy():
                        generator.close()
                    raise
                except BaseException as error:
                    value, resume = error, generator.throw
        return wrapped


class _Fixed(_Switch):
    """A switch to one mode, whose decorator works with and without brackets."""
    fixed = None

    def __new__(cls, function=None):
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self):
        super().__init__(self.fixed)


class no_grad(_Fixed):
    """Do not record operations inside; a context manager or a decorator."""
    fixed = False


class enable_grad(_Fixed):
    """Record operations inside, even within `no_grad`; a context manager or a decorator."""
    fixed = True


class set_grad_enabled(_Switch):
    """Switch recording on or off at once; as a context manager, until the end of the block; also a decorator."""

    def __init__(self, mode):
        super().__init__(bool(mode))
        super().__enter__()

    def __enter__(self):
        current.enabled = self.mode
        return self

    def __call__(self, function):
        current.enabled = self.before[0]
        return super().__call__(function)


class inference_mode(_Switch):
    """The same as `no_grad`, a context manager or a decorator; `inference_mode(False)` records, even within it.

    What is computed inside can be used afterwards like any tensor.
    """

    def __new__(cls, mode=True):
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode=True):
        super().__init__(not mode)

    def __enter__(self):
        self.before.append(current.inference)
        current.inference = not self.mode
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        current.inference = self.before.pop()

    def copy(self):
        return inference_mode(not self.mode)
