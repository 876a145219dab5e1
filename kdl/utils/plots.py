"""Pictures: learning curves, confusion matrices, filters and feature maps, each written to one PNG file.

matplotlib is imported when the first picture is drawn, and draws without a display. Nothing is returned but the path.
"""
import os
from pathlib import Path

import numpy as np

__all__ = ["confusion_matrix", "curves", "filters"]


def curves(path, history, title=""):
    """One panel per quantity over epochs; `history` maps a quantity to its series: {"loss": {"train": [...], ...}}."""
    figure, axes = _figure(1, len(history), 4.2, 3.2)
    for axis, (quantity, series) in zip(axes.flat, history.items(), strict=True):
        for name, values in series.items():
            axis.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
        axis.set(xlabel="epoch", ylabel=quantity)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    return _write(figure, path, title)


def confusion_matrix(path, actual, predicted, names=None, title=""):
    """Counts of (actual, predicted) pairs of class numbers, the errors shaded by their share of the actual class."""
    actual, predicted = np.asarray(actual), np.asarray(predicted)
    n = len(names) if names is not None else int(max(actual.max(initial=0), predicted.max(initial=0))) + 1
    counts = np.bincount(actual * n + predicted, minlength=n * n).reshape(n, n)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = _figure(1, 1, 1.2 + 0.5 * n, 1.0 + 0.45 * n)
    axis = axes.flat[0]
    axis.imshow(np.where(np.eye(n, dtype=bool), 0.6 * share, np.minimum(6 * share, 1)), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        dark = share[row, column] > 0.8 if row == column else share[row, column] > 0.1
        axis.text(column, row, counts[row, column], ha="center", va="center", fontsize=8,
                  color="white" if dark else "black")
    names = [str(i) for i in range(n)] if names is None else names
    axis.set(xlabel="predicted", ylabel="actual", xticks=range(n), yticks=range(n), xticklabels=names,
             yticklabels=names)
    return _write(figure, path, title)


def filters(path, weight, maps=None, image=None, title=""):
    """The filters (K, C, R, S) of a convolution as small images; below them, what each answers to one image.

    `maps` are the feature maps (K, P, Q) of `image` (H, W). Filters of several input channels are averaged over them.
    """
    weight = np.asarray(weight).mean(1)
    rows = 1 if maps is None else 2
    columns = len(weight) + (maps is not None)
    figure, axes = _figure(rows, columns, 1.25, 1.45)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    limit = np.abs(weight).max()
    for i, kernel in enumerate(weight):
        axis = axes[0, i + columns - len(weight)]
        shown = axis.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"filter {i + 1}", fontsize=8)
        if maps is not None:
            axes[1, i + 1].imshow(maps[i], cmap="gray")
            axes[1, i + 1].set_title(f"map {i + 1}", fontsize=8)
    if maps is not None:
        axes[1, 0].imshow(image, cmap="gray")
        axes[1, 0].set_title("input", fontsize=8)
    figure.colorbar(shown, ax=axes[0].tolist(), shrink=0.8, label="weight")
    return _write(figure, path, title)


def _figure(rows, columns, width, height):
    """A figure of panels of so many inches each, and the array of its axes."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot.subplots(rows, columns, figsize=(columns * width, rows * height), squeeze=False,
                           layout="constrained")


def _write(figure, path, title):
    """Save the figure under a temporary name, then rename it: a picture is whole or not there."""
    from matplotlib import pyplot
    if title:
        figure.suptitle(title, fontsize=10)
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=140, format="png")
    pyplot.close(figure)
    os.replace(partial, path)
    return path
