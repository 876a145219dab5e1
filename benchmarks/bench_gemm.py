"""Matrix products: FLOPs are 2 M N K per product, bytes what the operands and the result hold in float32."""
from benchmarks.harness import bench
from tests.optable import normal


def _matmul(a, b, flops):
    bench("matmul", normal(*a), normal(*b), flops=flops)


def _linear(rows, inputs, outputs):
    bench("linear", normal(rows, inputs), normal(outputs, inputs), normal(outputs), flops=2 * rows * inputs * outputs,
          bytes=4 * (rows * inputs + inputs * outputs + outputs + rows * outputs))


_matmul((512, 512), (512, 512), 2 * 512 ** 3)
_matmul((1024, 1024), (1024, 1024), 2 * 1024 ** 3)
_matmul((16, 128, 256), (256, 256), 2 * 16 * 128 * 256 * 256)  # a batch by one matrix
_matmul((8, 12, 128, 64), (8, 12, 64, 128), 2 * 96 * 128 * 128 * 64)  # attention scores
_matmul((4096, 1024), (1024,), 2 * 4096 * 1024)
_linear(64, 400, 120)  # LeNet-5's layers
_linear(64, 84, 10)
_linear(128, 784, 512)
_linear(512, 768, 3072)
bench("bilinear", normal(64, 128), normal(64, 128), normal(32, 128, 128), normal(32), flops=2 * 64 * 32 * 128 * 129)
