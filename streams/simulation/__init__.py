"""A company in a box, and replay of logs."""
