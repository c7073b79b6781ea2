"""What a worker says over HTTP: whether it lives, whether it is ready, what it counts."""
