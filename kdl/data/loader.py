"""DataLoader: the batches of an epoch, in an order that the seed fixes, made ahead in a thread when wanted."""
from collections import deque
from itertools import islice

import numpy as np

from kdl.data.dataset import Dataset, default_collate
from kdl.errors import expect, expect_type
from kdl.random import Generator, randperm
from kdl.tensor import Tensor

__all__ = ["DataLoader"]


class DataLoader:
    """Iterating gives one epoch of batches, as `collate_fn` (or `default_collate`) makes them of the examples.

    `shuffle` draws a new order for every epoch from `generator` (`seed` makes one), or from one that the default
    generator seeds: for the same seed the orders are torch's. Every epoch draws from the generator, shuffled or not, as
    torch's does. `sampler`, any iterable of indices, gives the order itself; `drop_last` leaves an incomplete last
    batch out.
    With `num_workers` 0 batches are made when they are asked for; with any other number one background thread makes up
    to `prefetch_factor` of them ahead, in the same order. An exception there is raised where the batch is asked for,
    and leaving the loop early ends the thread. Examples that draw random numbers should bring their own generator then.

    `state_dict()` and `load_state_dict()` continue in the middle of an epoch. Raises ValueError, TypeError.
    """

    def __init__(self, dataset, batch_size=1, shuffle=False, sampler=None, *, num_workers=0, collate_fn=None,
                 drop_last=False, generator=None, seed=None, prefetch_factor=2):
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0),
                                   ("prefetch_factor", prefetch_factor, 1)):
            expect_type(isinstance(value, (int, np.integer)), "DataLoader", f"{name} to be an int", **{name: value})
            expect(value >= least, "DataLoader", f"{name} >= {least}", **{name: value})
        expect(not (shuffle and sampler is not None), "DataLoader", "shuffle or a sampler, not both", shuffle=shuffle)
        expect(seed is None or generator is None, "DataLoader", "a seed or a generator, not both", seed=seed)
        self.dataset, self.batch_size, self.shuffle, self.sampler = dataset, int(batch_size), shuffle, sampler
        self.num_workers, self.prefetch_factor, self.drop_last = num_workers, prefetch_factor, drop_last
        self.collate_fn = collate_fn
        self.generator = generator if seed is None else Generator().manual_seed(seed)
        self._order, self._delivered, self._resume = None, 0, False  # _order: a state from which to draw the order

    def __len__(self):
        n = len(self.dataset if self.sampler is None else self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self):
        if not self._resume:
            _seed(self.generator)  # torch's is for its worker processes
            self._order, self._delivered = self._draw_order() if self.shuffle else None, 0
        self._resume = False
        batches = islice(self._index_batches(), self._delivered, None)
        return self._deliver(self._prefetched(batches) if self.num_workers else map(self._fetch, batches))

    def _draw_order(self):
        """The state of a generator from which to draw the epoch's order; the loader's own one is left behind that."""
        if self.generator is None:
            return Generator().manual_seed(_seed()).get_state()
        state = self.generator.get_state()
        randperm(len(self.dataset), generator=self.generator)
        return state

    def _index_batches(self):
        """Integer arrays of indices, one per batch."""
        if self.sampler is None:
            n = len(self.dataset)
            order = np.arange(n)
            if self.shuffle:
                order = randperm(n, generator=Generator().set_state(self._order)).array
            for start in range(0, n, self.batch_size):
                if start + self.batch_size <= n or not self.drop_last:
                    yield order[start:start + self.batch_size]
            return
        indices = iter(self.sampler)
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield np.asarray(batch, np.int64)

    def _fetch(self, indices):
        if self.collate_fn is None and isinstance(self.dataset, Dataset):
            return self.dataset.batch(indices)
        return (self.collate_fn or default_collate)([self.dataset[int(i)] for i in indices])

    def _prefetched(self, batches):
        from concurrent.futures import ThreadPoolExecutor  # and logging with it: 4 ms of `import kdl`
        pool = ThreadPoolExecutor(1, thread_name_prefix="kdl.data")
        try:
            pending = deque(pool.submit(self._fetch, indices) for indices in islice(batches, self.prefetch_factor))
            while pending:
                batch = pending.popleft().result()
                pending.extend(pool.submit(self._fetch, indices) for indices in islice(batches, 1))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _deliver(self, batches):
        """Count what has been handed over, for `state_dict`."""
        for batch in batches:
            self._delivered += 1
            yield batch
        if self.shuffle and self.generator is not None:
            randperm(len(self.dataset), generator=self.generator)  # as torch does, for no further rows
        self._order, self._delivered = None, 0

    def state_dict(self):
        """Where in the epoch the loader is, and the state of its generator where it has its own."""
        return {"order": self._order, "delivered": self._delivered,
                "generator": None if self.generator is None else self.generator.get_state()}

    def load_state_dict(self, state_dict):
        """Make the next iteration continue behind the batches that were delivered, in the same order."""
        self._order, self._delivered = state_dict["order"], state_dict["delivered"]
        self._resume = self._order is not None or self._delivered > 0
        if self.generator is not None:
            self.generator.set_state(state_dict["generator"])


def _seed(generator=None):
    return int(Tensor(np.empty((), np.int64)).random_(generator=generator))
