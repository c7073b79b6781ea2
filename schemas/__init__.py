"""The contract: records, topics, wire format, hashing and errors. Imports nothing of ours."""
