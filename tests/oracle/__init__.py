"""A second evaluation of the method, in 50 digits, and the cases and mutants that come of it."""
