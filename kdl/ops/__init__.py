"""The differentiable functions, one family a file; each file's docstring has the maths, forward and backward."""
