"""Offline training. It meets the workers only in `schemas`."""
