"""A miniature GPT writes, character by character (Vaswani et al., 2017; Radford et al., 2018).

Attention in place of a state: every character asks all before it, softmax(q k' / sqrt(d)) v, in several heads at once,
and a network works on each place alone; two such blocks, each added to what it was given. A mask hides the future, so
that one pass over a window trains all its predictions, and changing a later character must not change an earlier score.
Attention alone does not know the order; an embedding of the place is added to that of the character.

Data: Python's reference manual, its last tenth for the test. Baseline: a trigram model, which sees two characters.
"""
import numpy as np

import kdl
from kdl.models import GPT
from kdl.recipes.text import bits, characters, draw_writer, fit_writer, ngram_bits, write

METRIC = "bits per character"
GATES = [("bits per character", "<=", 2.18), ("bits per character", ">=", 1.9), ("bits below the trigram", ">=", 0.29),
         ("change of the past by the future", "<=", 1e-4)]
EPOCHS = 10


@kdl.no_grad()
def leak(model, window):
    """The largest change of the first 40 places' scores when all later characters become another."""
    changed = window.clone()
    changed[:, 40:] = 0
    return (model(window) - model(changed))[:, :40].abs().max().item()


def run(job):
    train, test, alphabet = characters()
    model = GPT(len(alphabet)).to(job.device)
    history = fit_writer(job, model, train, lr=4e-3)
    score, trigram = bits(job, model, test, 64), ngram_bits(train, test, 3, len(alphabet))
    changed = leak(model, job.tensor(test[None, :64]))
    draw_writer(job, history, trigram, *write(job, model, alphabet, "The "))
    draw_attention(job, model, test[:40], alphabet)
    return {"bits below the trigram": trigram - score, "change of the past by the future": changed,
            "bits per character": score}, trigram


@kdl.no_grad()
def draw_attention(job, model, codes, alphabet):
    """Where each character of a line looks, in the four heads of the first block."""
    block, x = model.body.layers[0], job.tensor(codes[None])
    places = kdl.arange(len(codes), device=job.device)
    y = block.norm1(model.token(x) + model.place(places))
    future = kdl.triu(kdl.ones(len(codes), len(codes), dtype=kdl.bool, device=job.device), 1)
    _, weights = block.self_attn(y, y, y, attn_mask=future, average_attn_weights=False)
    names = [alphabet[c].replace("\n", "¶").replace(" ", "·") for c in codes]
    with job.figure("attention", 1, weights.shape[1], 4.0, 4.2, "Where each character (row) looks (column) in the "
                    "first block's heads") as axes:
        for axis, values, head in zip(axes[0], np.sqrt(weights[0].cpu().numpy()), range(1, 5)):
            axis.imshow(values, cmap="Blues", vmin=0, vmax=1)
            axis.set(xlabel="looked at", ylabel="looking", title=f"head {head}")
            axis.set_xticks(range(len(names)), names, fontsize=6, family="monospace")
            axis.set_yticks(range(len(names)), names, fontsize=6, family="monospace")
