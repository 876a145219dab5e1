"""Sequences of different lengths in one tensor: padded to the longest, or packed without padding.

A packed batch holds the first steps of all sequences, longest first, then the second steps of those that have one, ...
"""
from typing import NamedTuple

import numpy as np

from kdl import types
from kdl.errors import expect, expect_type
from kdl.ops.creation import full
from kdl.ops.join import cat, stack
from kdl.ops.pad import pad
from kdl.tensor import Tensor

__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence",
           "pad_sequence", "unpack_sequence", "unpad_sequence"]


class PackedSequence(NamedTuple):
    """A packed batch: data (rows, ...), and how many rows every step has.

    sorted_indices says which sequence of the caller's batch stands at each place, unsorted_indices the reverse; both
    are None where the caller's batch was sorted.
    """
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: "Tensor | None" = None
    unsorted_indices: "Tensor | None" = None

    def to(self, *args, **kwargs):
        """The same with the data moved or cast as `Tensor.to` does."""
        return self._replace(data=self.data.to(*args, **kwargs))

    @property
    def is_cuda(self):
        return self.data.is_cuda


def invert_permutation(permutation):
    """p^-1 of a permutation p: p^-1[p[i]] = i; None for None."""
    if permutation is None:
        return None
    return Tensor(np.argsort(permutation.array, kind="stable"))


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """Pack (T, N, ...), or (N, T, ...) with batch_first, of which sequence n fills the first lengths[n] steps.

    With enforce_sorted the lengths must not grow; otherwise the sequences are sorted, and come back as they were.
    Raises TypeError, ValueError.
    """
    op = "pack_padded_sequence"
    lengths = _lengths(op, lengths)
    expect(input.ndim >= 2 and len(lengths) == input.shape[0 if batch_first else 1], op,
           "a length for each sequence of the batch", lengths=lengths.tolist(), input=input)
    steps, batch = input.shape[1 if batch_first else 0], len(lengths)
    expect(lengths.min() > 0 and lengths.max() <= steps, op, f"lengths from 1 to {steps}", lengths=lengths.tolist())
    order = np.argsort(-lengths, kind="stable")
    if enforce_sorted:
        expect((np.diff(lengths) <= 0).all(), op, "lengths that never grow; or pass enforce_sorted=False",
               lengths=lengths.tolist())
    there = np.arange(lengths.max())[:, None] < lengths[order]  # (step, place): whether the sequence has the step
    step, place = np.nonzero(there)
    position = order[place] * steps + step if batch_first else step * batch + order[place]
    data = input.flatten(0, 1).index_select(0, _on(input, position))
    permutation = None if enforce_sorted else Tensor(order)
    return PackedSequence(data, Tensor(there.sum(1)), permutation, invert_permutation(permutation))


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """The padded tensor (T, N, ...), or (N, T, ...) with batch_first, and the lengths, in the caller's order.

    T is the longest length, or total_length. Raises ValueError for one that is shorter.
    """
    sizes, data = sequence.batch_sizes.array, sequence.data
    steps, batch = len(sizes), int(sizes[0])
    if total_length is not None:
        expect(total_length >= steps, "pad_packed_sequence", "total_length of at least the longest sequence",
               total_length=total_length, longest=steps)
        steps = total_length
    order = np.arange(batch) if sequence.unsorted_indices is None else sequence.unsorted_indices.array
    table = np.full((steps, batch), len(data))  # where the padding stands
    for step, (start, n) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        table[step, :n] = np.arange(start, start + n)
    lengths = (table < len(data)).sum(0)[order]
    table = table[:, order].T if batch_first else table[:, order]
    padding = full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    padded = cat([data, padding]).index_select(0, _on(data, table.ravel()))
    return padded.reshape(*table.shape, *data.shape[1:]), Tensor(lengths)


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """Tensors (L_n, ...) stacked to (T, N, ...), or (N, T, ...) with batch_first, the shorter ones padded to T.

    Raises TypeError, ValueError.
    """
    op = "pad_sequence"
    sequences = list(sequences)
    expect(sequences and all(s.shape[1:] == sequences[0].shape[1:] and s.ndim for s in sequences), op,
           "sequences that differ in the first dimension only", sequences=[tuple(s.shape) for s in sequences])
    expect(padding_side in ("left", "right"), op, "padding_side 'left' or 'right'", padding_side=padding_side)
    longest = max(map(len, sequences))
    padded = []
    for s in sequences:
        missing = longest - len(s)
        margins = (missing, 0) if padding_side == "left" else (0, missing)
        padded.append(pad(s, (0, 0) * (s.ndim - 1) + margins, value=padding_value) if missing else s)
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """The list of sequences in a padded tensor, each as long as `lengths` says."""
    lengths = _lengths("unpad_sequence", lengths)
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:n] for row, n in zip(rows, lengths.tolist(), strict=True)]


def pack_sequence(sequences, enforce_sorted=True):
    """Pack a list of tensors (L_n, ...); see `pack_padded_sequence`."""
    lengths = [len(s) for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences):
    """The list of sequences in a packed batch, in the caller's order."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


def _lengths(op, lengths):
    """The lengths as an array of ints."""
    lengths = np.asarray(lengths.tolist() if isinstance(lengths, Tensor) else lengths)
    expect_type(lengths.dtype.kind in "iu" and lengths.ndim == 1, op, "lengths to be ints", lengths=lengths.tolist())
    return lengths.astype(types.int64)


def _on(tensor, positions):
    """The positions as a tensor on the device of another."""
    return Tensor(positions).to(tensor.device)
