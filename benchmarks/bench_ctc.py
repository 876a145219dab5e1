"""Connectionist temporal classification: bytes are the log-probabilities and the alphas, once each."""
from benchmarks.harness import bench
from tests.optable import integers
from tests.optable.ctc import log_probs

bench("ctc_loss", log_probs(100, 32, 40), integers(1, 40, 32, 20), [100] * 32, [20] * 32,
      bytes=4 * 100 * 32 * (40 + 41))
