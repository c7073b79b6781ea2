"""Pure logic: no Kafka, no asyncio, no torch; clock and random generator are arguments."""
