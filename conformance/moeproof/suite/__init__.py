"""The tests that a user runs: ``pytest --pyargs moeproof.suite --implementation REF``."""
