"""The agents: one file a step. Each awaits a batch, calls core, emits."""
