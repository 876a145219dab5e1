"""Matrix products: FLOPs are 2 M N K per product, bytes what the operands and the result hold.

`forward`, `dx` and `dw` of matmul are the products NN, NT and TN; of linear NT, NN and TN.
"""
from math import prod

from benchmarks.harness import OPERANDS, bench
from tests.optable import normal

LARGE, SMALL = "gemm large", "gemm small"


def _matmul(a, b, area, passes=OPERANDS, **options):
    y = (*a[:-1], *b[-1:]) if len(b) > 1 else a[:-1]
    size = 2 if options.get("dtype") == "bfloat16" else 4
    bench("matmul", normal(*a), normal(*b), flops=2 * prod(a) * (b[-1] if len(b) > 1 else 1),
          bytes=size * (prod(a) + prod(b) + prod(y)), area=area, passes=passes, **options)


def _linear(rows, inputs, outputs, area, **options):
    size = 2 if options.get("dtype") == "bfloat16" else 4
    bench("linear", normal(rows, inputs), normal(outputs, inputs), normal(outputs), flops=2 * rows * inputs * outputs,
          bytes=size * (rows * inputs + inputs * outputs + outputs + rows * outputs), area=area, passes=OPERANDS,
          **options)


for _n in (512, 1024, 2048):
    _matmul((_n, _n), (_n, _n), LARGE, device="cpu")
_matmul((4096, 4096), (4096, 4096), LARGE, passes=("forward",), device="cpu")
_matmul((1000, 777), (777, 900), LARGE)
for _inputs, _outputs in ((768, 2304), (768, 768), (768, 3072), (3072, 768)):  # GPT-2's, 512 tokens
    _linear(512, _inputs, _outputs, LARGE)
_linear(256, 2048, 1000, LARGE)  # the head of ResNet-50
_linear(128, 784, 512, SMALL)    # the MLP's
_linear(128, 512, 512, SMALL)
_linear(128, 512, 10, SMALL)
_linear(64, 400, 120, SMALL)     # LeNet-5's
_linear(64, 120, 84, SMALL)
_linear(64, 84, 10, SMALL)
_linear(1, 768, 3072, SMALL)     # one token of GPT-2
_linear(8, 4096, 4096, SMALL)
_matmul((4096, 1024), (1024,), SMALL, passes=("forward",))
_matmul((1024, 8), (8, 1024), SMALL)
_matmul((357, 789), (789, 333), SMALL)
_matmul((8, 12, 128, 64), (8, 12, 64, 128), SMALL)                     # attention scores
_matmul((16, 128, 256), (256, 256), SMALL, passes=("forward",))        # a batch by one matrix
bench("bilinear", normal(64, 128), normal(64, 128), normal(32, 128, 128), normal(32), flops=2 * 64 * 32 * 128 * 129,
      bytes=4 * (2 * 64 * 128 + 32 * 128 * 128 + 32 + 64 * 32))

for _dtype in ("bfloat16", "float32"):
    for _shape in ((2048,) * 3, (4096,) * 3, (8192,) * 3, (8192, 2048, 2048), (1024, 8192, 1024), (4097, 4093, 4095),
                   (16, 4096, 4096), (128, 4096, 4096)):
        _matmul(_shape[:2], _shape[1:], LARGE, device="cuda", dtype=_dtype)
    for _inputs, _outputs in ((768, 2304), (768, 3072), (3072, 768)):
        _linear(8192, _inputs, _outputs, LARGE, device="cuda", dtype=_dtype)
