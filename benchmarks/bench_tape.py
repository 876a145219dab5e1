"""What a call costs beside its arithmetic: small operations, plain (`forward`), recorded, and with the gradient."""
from benchmarks.harness import bench
from tests.optable import normal

PASSES = ("forward", "recorded", "step")

bench("add", normal(8, 8), normal(8, 8), flops=64, bytes=12 * 64, passes=PASSES, kernel=False)
bench("relu", normal(8, 8), flops=64, bytes=8 * 64, passes=PASSES)
bench("linear", normal(8, 16), normal(16, 16), normal(16), flops=2 * 8 * 16 * 16, bytes=4 * 528, passes=PASSES)
