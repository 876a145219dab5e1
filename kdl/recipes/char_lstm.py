"""A network writes, character by character: an LSTM as language model (Graves, 2013).

The probability of a text is the product of those of its characters, each given all before it; the LSTM carries what it
has read in its state, and a softmax says what comes next. The loss is the mean of -log2 p, in bits per character: what
an ideal coder would need. Drawn character by character, the model writes.

Data: Python's reference manual, its last tenth for the test. Baseline: a trigram model, which sees two characters.
"""
from kdl.models import CharLSTM
from kdl.recipes.text import bits, characters, draw_writer, fit_writer, ngram_bits, write

METRIC = "bits per character"
GATES = [("bits per character", "<=", 2.08), ("bits below the trigram", ">=", 0.38)]
EPOCHS = 20


def run(job):
    train, test, alphabet = characters()
    model = CharLSTM(len(alphabet)).to(job.device)
    history = fit_writer(job, model, train, lr=1e-2)
    score = bits(job, model, test, 128)
    ngrams = {n: ngram_bits(train, test, n, len(alphabet)) for n in (1, 2, 3, 4, 5)}
    draw_writer(job, history, ngrams[3], *write(job, model, alphabet, "The "))
    return {f"{n}-gram": b for n, b in ngrams.items()} | {"bits below the trigram": ngrams[3] - score,
                                                          "bits per character": score}, ngrams[3]
