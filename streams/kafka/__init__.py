"""The bus: broker, topics, transport, shards, followers."""
