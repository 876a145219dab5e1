"""The reference kernels: NumPy, written to be obviously right; tests and benchmarks compare everything with them."""
