"""Releases of encoders: kept, fetched, checked, and run."""
