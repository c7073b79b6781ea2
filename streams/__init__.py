"""The stream workers: they decide notifications and learn from what people do with them."""
