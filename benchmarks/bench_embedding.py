"""Embeddings: bytes are the rows that are read and written, and their numbers."""
from benchmarks.harness import bench
from tests.optable import integers, normal

bench("embedding", integers(0, 30000, 64, 32), normal(30000, 256), bytes=64 * 32 * (2 * 256 * 4 + 8))
bench("embedding_bag", integers(0, 30000, 256, 32), normal(30000, 64), bytes=256 * (32 * (64 * 4 + 8) + 64 * 4))
