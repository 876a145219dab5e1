"""Translation, letter by letter: a transformer of encoder and decoder learns Pig Latin (Vaswani et al., 2017).

The encoder reads the whole English word, every letter asking all others. The decoder writes the translation: every
letter asks those written before it and then, by cross-attention, the English ones. In training all letters are asked
for at once, each after the true ones before it (teacher forcing); in use the network reads its own letters, each time
the likeliest.

Pig Latin moves the consonants before the first vowel to the end and adds "ay"; a word that begins with a vowel gets
"way": string - ingstray, object - objectway. So the network must find the vowel, copy from there, and come back.

Data: the words of three to ten letters in Python's reference manual, 85 % to train on. Baseline: add "way".
"""
import re

import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import manual
from kdl.utils import plots

METRIC = "new words translated exactly"
GATES = [("new words translated exactly", ">=", 0.88)]
EPOCHS = 25
START, STOP, PAD, LENGTH = 26, 27, 28, 16  # after the numbers of the letters; of a padded word


def pig_latin(word):
    consonants = re.match("[^aeiou]*", word)[0]
    return word[len(consonants):] + consonants + "ay" if consonants else word + "way"


def encode(words, start=()):
    """The numbers of the letters of each word, the sign that it stops, and padding: (N, LENGTH)."""
    codes = [[*start, *(ord(letter) - ord("a") for letter in word), STOP] for word in words]
    return np.array([code + [PAD] * (LENGTH - len(code)) for code in codes])


def decode(codes):
    """The word in a row of numbers: its letters up to the sign that it stops."""
    codes = list(codes)
    letters = codes[:codes.index(STOP)] if STOP in codes else codes
    return "".join(chr(ord("a") + code) for code in letters if code < START)


class Translator(nn.Module):
    """Source (N, S) and the target so far (N, T) to scores (N, T, 29) of each next letter."""

    def __init__(self, width=64):
        super().__init__()
        self.letter, self.place = nn.Embedding(29, width, padding_idx=PAD), nn.Embedding(LENGTH, width)
        self.body = nn.Transformer(width, nhead=4, num_encoder_layers=2, num_decoder_layers=2,
                                   dim_feedforward=2 * width, dropout=0.0, batch_first=True)
        self.out = nn.Linear(width, 29)

    def embed(self, x):
        return self.letter(x) + self.place(kdl.arange(x.shape[1], device=x.device))

    def forward(self, source, target):
        return self.write(target, self.read(source), source == PAD)

    def read(self, source):
        return self.body.encoder(self.embed(source), src_key_padding_mask=source == PAD)

    def write(self, target, memory, empty):
        return self.out(self.body.decoder(self.embed(target), memory, tgt_mask=future(target),
                                          memory_key_padding_mask=empty))


def future(x):
    """True where a place (row) must not look, because that one (column) comes after it."""
    return kdl.triu(kdl.ones(x.shape[1], x.shape[1], dtype=kdl.bool, device=x.device), 1)


@kdl.no_grad()
def translate(model, source):
    """The likeliest letters, one after another: numbers (N, LENGTH - 1)."""
    model.eval()
    memory, target = model.read(source), source.new_full((len(source), 1), START)
    while target.shape[1] < LENGTH:
        target = kdl.cat([target, model.write(target, memory, source == PAD)[:, -1:].argmax(2)], 1)
    return target[:, 1:]


def run(job):
    words = sorted({word for word in re.findall("[a-z]+", manual().lower())
                    if 3 <= len(word) <= 10 and re.search("[aeiou]", word)})
    train, test = job.split(np.array(words), test=0.15)
    x, xt, y = [job.tensor(a) for a in (
        encode(train), encode(test), encode([pig_latin(word) for word in train], start=[START]))]
    truth = [pig_latin(word) for word in test]
    exact = lambda: np.array([decode(row) for row in translate(model, xt).cpu().numpy()]) == truth

    model = Translator().to(job.device)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=job.epochs * (len(x) // 64),
                                              pct_start=0.1)
    loss = lambda x, y: F.cross_entropy(model(x, y[:, :-1]).flatten(0, 1), y[:, 1:].flatten(), ignore_index=PAD)
    history = job.fit(loss, model, optimizer, (x, y), batch_size=64, scheduler=scheduler, schedule_steps=True,
                      evaluate=lambda: {"exact translations/test": exact().mean()})

    right, same = exact(), np.array([word + "way" for word in test]) == truth
    job.draw(plots.curves, "curves", history, {"exact translations/add way": same.mean()},
             title="The loss per letter, and the share of new words translated exactly")
    draw_lengths(job, np.array([len(word) for word in test]), right, same)
    rotated = sorted(test[right], key=lambda word: re.search("[aeiou]", word).start())
    draw_attention(job, model, [*rotated[-1:], *rotated[:1], *test[~right][:1]])
    return {"words": len(words), "new words translated exactly": float(right.mean())}, float(same.mean())


def draw_lengths(job, lengths, right, same):
    with job.figure("lengths", 1, 1, 5.0, 3.2, "New words translated exactly, by their length") as axes:
        shown = np.unique(lengths)
        for name, hits, shift in (("transformer", right, -0.2), ("add way", same, 0.2)):
            axes[0, 0].bar(shown + shift, [hits[lengths == n].mean() for n in shown], 0.4, label=name)
        axes[0, 0].set(xlabel="letters", ylabel="share exactly right", ylim=(0, 1.2))
        axes[0, 0].legend(frameon=False, fontsize=8, ncols=2)


@kdl.no_grad()
def draw_attention(job, model, words):
    """Where each letter looks in the English word: the cross-attention of both layers, the mean over the heads."""
    names = np.array([*"abcdefghijklmnopqrstuvwxyz", "start", "stop"])
    with job.figure("attention", 2, len(words), 3.4, 3.2, "Where the letter to be written (row) looks in the new "
                    "word (column): the decoder's two layers") as axes:
        for column, word in zip(axes.T, words, strict=True):
            source = job.tensor(encode([word])[:, :len(word) + 1])
            written = translate(model, source)
            translation = decode(written[0].tolist())
            written = written[:, :len(translation) + 1]
            target = kdl.cat([source.new_full((1, 1), START), written[:, :-1]], 1)
            x, memory = model.embed(target), model.read(source)
            for axis, layer in zip(column, model.body.decoder.layers, strict=True):
                y = layer.norm1(x + layer.self_attn(x, x, x, attn_mask=future(x))[0])
                weights = layer.multihead_attn(y, memory, memory)[1][0].cpu().numpy()
                axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
                axis.set_xticks(range(source.shape[1]), names[source[0].cpu().numpy()], fontsize=7)
                axis.set_yticks(range(written.shape[1]), names[written[0].cpu().numpy()], fontsize=7)
                x = layer(x, memory, tgt_mask=future(x))
            column[0].set_title(f"{word}: {translation}", fontsize=9)
        for axis, layer in zip(axes[:, 0], (1, 2), strict=True):
            axis.set_ylabel(f"layer {layer}")
