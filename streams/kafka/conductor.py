"""Delivery of messages to the agents' queues, undecoded.

Faust decodes key and value of each message, and wraps it in an event, before it is queued. Here
topics are raw bytes to Faust, and each has one agent: the message itself is queued.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from faust.transport import conductor as faust_conductor
from faust.types import TP, ConsumerMessage

from schemas.errors import BusError

__all__ = ["Conductor", "Delivery"]


class Delivery:
    """A message in an agent's queue."""

    __slots__ = ("_consumer", "message")

    def __init__(self, message: ConsumerMessage, consumer: Any) -> None:
        self.message = message
        self._consumer = consumer

    def ack(self) -> None:
        """Tell Faust that the message is done: its offset may be committed."""
        self._consumer.ack(self.message)


class Conductor(faust_conductor.Conductor):
    """Queues each message for the one agent of its topic."""

    def _build_handler(self, tp: TP, channels: Any) -> Callable[[ConsumerMessage], Awaitable[None]]:
        if len(channels) != 1:
            raise BusError(f"topic {tp.topic} has {len(channels)} agents: give it one")
        app = self.app
        (channel,) = channels
        queue = channel.queue
        flow = app.flow_control
        consumer = app.consumer

        def pressure_rises() -> None:
            app.sensors.on_topic_buffer_full(tp)
            consumer.on_buffer_full(tp)  # nothing more is fetched of this partition

        def pressure_drops() -> None:
            consumer.on_buffer_drop(tp)

        async def deliver(message: ConsumerMessage) -> None:
            if not flow.is_active():
                await flow.acquire()
            delivery = Delivery(message, consumer)
            if queue.full():
                app.sensors.on_topic_buffer_full(tp)
                await channel.put(delivery)
            else:
                queue.put_nowait_enhanced(
                    delivery, on_pressure_high=pressure_rises, on_pressure_drop=pressure_drops
                )

        return deliver
