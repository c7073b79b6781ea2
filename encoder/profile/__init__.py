"""The profile encoder: what is known of a user, as one dense vector z."""
