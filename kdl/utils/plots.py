"""Pictures: learning curves, confusion matrices, filters, decision boundaries, latent spaces, each in one PNG file.

matplotlib is imported when the first picture is drawn, and draws without a display. Nothing is returned but the path.
"""
import os
import textwrap
from contextlib import contextmanager
from pathlib import Path

import numpy as np

__all__ = ["boundary", "confusion_matrix", "curves", "draw_boundary", "draw_points", "figure", "filters", "heatmap",
           "image_rows", "images", "scatter"]


def curves(path, history, references=None, title="", xlabel="epoch"):
    """One panel per quantity over epochs; `history` maps "quantity/series" to values: {"loss/train": [...], ...}.

    `references` maps "quantity/name" to a number that is drawn as a dashed line: a baseline, a known optimum.
    """
    panels = {}
    for key, values in history.items():
        quantity, _, series = key.partition("/")
        panels.setdefault(quantity, {})[series or quantity] = values
    figure, axes = _figure(1, len(panels), 4.2, 3.2)
    for axis, (quantity, series) in zip(axes.flat, panels.items(), strict=True):
        for name, values in series.items():
            few = len(values) <= 40
            axis.plot(range(1, len(values) + 1), values, marker="o" if few else None, markersize=3, label=name)
        for key, value in (references or {}).items():
            if key.partition("/")[0] == quantity:
                axis.axhline(value, linestyle="--", linewidth=1, color="0.4", label=key.partition("/")[2])
        axis.set(xlabel=xlabel, ylabel=quantity)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
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
    axis.tick_params("x", rotation=90 if max(map(len, names)) > 4 else 0)
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


def images(path, pictures, captions=None, columns=8, title="", size=1.1):
    """A grid of small images (H, W) in gray or (H, W, 3) in colour, with a caption over each."""
    rows = -(-len(pictures) // columns)
    figure, axes = _figure(rows, min(columns, len(pictures)), size, size * (1.25 if captions else 1.05))
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (axis, picture) in enumerate(zip(axes.flat, pictures)):
        axis.imshow(np.asarray(picture), cmap="gray")
        if captions:
            axis.set_title(captions[i], fontsize=8)
    return _write(figure, path, title)


def image_rows(path, rows, captions=None, title="", size=1.1):
    """Rows of small images, each with its name: {"input": (N, H, W), ...}; a caption over each column."""
    figure, axes = _figure(len(rows), max(len(pictures) for pictures in rows.values()), size, size)
    for row, (name, pictures) in zip(axes, rows.items()):
        for axis, picture in zip(row, pictures):
            axis.imshow(np.asarray(picture), cmap="gray")
        row[0].set_ylabel(name, fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, caption in zip(axes[0], captions or []):
        axis.set_title(caption, fontsize=8)
    return _write(figure, path, title)


def boundary(path, predict, points, labels, names=None, title=""):
    """What a classifier of the plane says everywhere, and the points (N, 2) it learned from, coloured by label.

    `predict` takes an array (M, 2) and returns M class numbers, or M scores between the classes 0 and 1.
    """
    figure, axes = _figure(1, 1, 4.6, 4.2)
    draw_boundary(axes.flat[0], predict, points, labels, names)
    return _write(figure, path, title)


def draw_boundary(axis, predict, points, labels, names=None, cells=200):
    """`boundary` in one of the axes of a figure."""
    points, labels = np.asarray(points), np.asarray(labels)
    low, high = points.min(0), points.max(0)
    low, high = low - 0.15 * (high - low), high + 0.15 * (high - low)
    grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], cells), np.linspace(low[1], high[1], cells)), -1)
    values = np.asarray(predict(grid.reshape(-1, 2).astype(points.dtype))).reshape(cells, cells)
    axis.imshow(values, origin="lower", extent=(low[0], high[0], low[1], high[1]), cmap="RdBu_r", alpha=0.6,
                aspect="auto", vmin=0, vmax=max(labels.max(), 1))
    colours = axis.scatter(points[:, 0], points[:, 1], c=labels, cmap="RdBu_r", edgecolor="black", linewidth=0.4, s=16,
                           vmin=0, vmax=max(labels.max(), 1))
    if names is not None:
        axis.legend(colours.legend_elements()[0], names, frameon=True, fontsize=8)
    axis.set(xlabel="x1", ylabel="x2")


def scatter(path, points, labels, names=None, title="", xlabel="", ylabel=""):
    """Points of the plane (N, 2), coloured by their class numbers: a latent space, a projection."""
    figure, axes = _figure(1, 1, 5.4, 4.6)
    draw_points(axes.flat[0], points, labels, names)
    axes.flat[0].set(xlabel=xlabel, ylabel=ylabel)
    return _write(figure, path, title)


def draw_points(axis, points, labels, names=None):
    """`scatter` in one of the axes of a figure."""
    points, labels = np.asarray(points), np.asarray(labels)
    for c in np.unique(labels):
        chosen = labels == c
        axis.scatter(points[chosen, 0], points[chosen, 1], s=9, color=f"C{c % 10}",
                     label=str(c) if names is None else names[c])
    axis.legend(frameon=False, fontsize=8, markerscale=1.6, loc="center left", bbox_to_anchor=(1, 0.5))


def heatmap(path, values, rows=None, columns=None, title="", xlabel="", ylabel="", signed=False):
    """A matrix as colours, with the names of its rows and columns: attention, similarity, a score per place.

    `signed` values get two colours that meet at 0.
    """
    values = np.asarray(values)
    figure, axes = _figure(1, 1, 1.8 + 0.22 * values.shape[1], 1.4 + 0.2 * values.shape[0])
    axis, limit = axes.flat[0], np.abs(values).max()
    shown = axis.imshow(values, cmap="RdBu_r" if signed else "viridis", aspect="auto",
                        vmin=-limit if signed else None, vmax=limit if signed else None)
    for set_ticks, names in ((axis.set_yticks, rows), (axis.set_xticks, columns)):
        if names is not None:
            set_ticks(range(len(names)), names, fontsize=8, rotation=90 if set_ticks == axis.set_xticks else 0)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    figure.colorbar(shown, ax=axis, shrink=0.8)
    return _write(figure, path, title)


@contextmanager
def figure(path, rows, columns, width, height, title=""):
    """The axes, (rows, columns) of so many inches each, of a picture of one's own; it is written at the end."""
    drawn, axes = _figure(rows, columns, width, height)
    yield axes
    _write(drawn, path, title)


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
        figure.suptitle(textwrap.fill(title, int(11 * figure.get_figwidth())), fontsize=10)
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=140, format="png")
    pyplot.close(figure)
    os.replace(partial, path)
    return path
