"""Helpers of the tests: definitions in scalar loops, strategies, and the checkers of gradients and agreement."""
