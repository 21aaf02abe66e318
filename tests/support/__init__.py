"""Helpers of the tests: strategies, a call of each function, checkers of gradients and results."""
