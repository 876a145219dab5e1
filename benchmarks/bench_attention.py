"""Attention: FLOPs are those of its two products, and of the four of its gradients."""
from benchmarks.harness import bench
from tests.optable import normal

for _batch, _heads, _length, _width, _causal in ((64, 4, 17, 16, False), (8, 8, 256, 64, True)):
    _x = normal(_batch, _heads, _length, _width)
    bench("scaled_dot_product_attention", _x, _x, _x, None, 0.0, _causal,
          flops=4 * _batch * _heads * _length**2 * _width, backward_flops=8 * _batch * _heads * _length**2 * _width,
          bytes=16 * _batch * _heads * _length * _width, backward_bytes=28 * _batch * _heads * _length * _width)
