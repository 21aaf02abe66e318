"""The method a second time, sharing no code with `c2f_ref`: where the frozen answers of `c2f_ref.conformance` come from."""
