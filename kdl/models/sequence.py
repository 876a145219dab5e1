"""Networks that read text, one character or word number at a time: an LSTM, and a small GPT."""
import math

import kdl
from kdl import nn

__all__ = ["GPT", "CharLSTM"]


class CharLSTM(nn.Module):
    """Embedding, LSTM, and a score for every next character: (N, T) numbers to (N, T, vocabulary).

    `read` also takes and gives the LSTM's state, so that a text can be written on character by character.
    """

    def __init__(self, vocabulary, embedding=32, hidden=128, layers=1):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embedding)
        self.cell = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.out = nn.Linear(hidden, vocabulary)

    def forward(self, x):
        return self.read(x)[0]

    def read(self, x, state=None):
        y, state = self.cell(self.embed(x), state)
        return self.out(y), state


class GPT(nn.Module):
    """A decoder-only transformer (Radford et al., 2019): (N, T) numbers to (N, T, vocabulary) scores of what follows.

    Pre-norm blocks of causal self-attention and a GELU network four times as wide; places are learned, and start as
    sinusoids. T is at most `context`.
    """

    def __init__(self, vocabulary, width=96, layers=2, heads=4, context=64, dropout=0.0):
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.body, self.norm = nn.TransformerEncoder(block, layers, enable_nested_tensor=False), nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary, bias=False)
        angle = kdl.outer(kdl.arange(context).float(), kdl.exp(kdl.arange(0, width, 2) * (-math.log(1000) / width)))
        with kdl.no_grad():
            nn.init.normal_(self.token.weight, std=0.5)
            self.place.weight.copy_(kdl.stack([angle.sin(), angle.cos()], 2).flatten(1))

    def forward(self, x):
        n = x.shape[1]
        future = kdl.triu(kdl.ones(n, n, dtype=kdl.bool, device=x.device), 1)
        return self.out(self.norm(self.body(self.token(x) + self.place(kdl.arange(n, device=x.device)), mask=future)))
