"""The CPU kernels: Numba, parallel and vectorised. `launch.py` says how a kernel is compiled and called."""
