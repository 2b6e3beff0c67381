"""One file per implementation that the suite can be pointed at, found by its entry point.

Each file imports one implementation and exposes ``implementation``. The implementations are no
dependencies of moeproof: a missing one is an ImportError that names the package to install.
"""
