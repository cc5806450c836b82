"""The version of this package: that of the C++ project, which a test compares."""

__version__ = "0.1.0"
