"""The one place that sends to Celery: batches over one connection, bounded by its socket timeouts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery


class BrokerDown(Exception):
    """The broker does not answer; what was handed to it in this call may or may not have arrived."""


class SendRefused(Exception):
    """The broker answers but refused one message; those before it were taken."""

    def __init__(self, taken: int, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.taken = taken


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is sent for one row of the outbox; its id is the task's id."""

    id: UUID
    task: str
    queue: str
    payload: dict[str, str]
    headers: dict[str, str]


class Broker:
    """One connection to the broker of a Celery application; opened at the first use, never shared."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._producer: Any = None
        self._silences: tuple[type[Exception], ...] = (OSError,)

    def life(self) -> str:
        """Return what identifies the running broker: another text after each of its restarts.

        Raises BrokerDown.
        """
        with self._answering() as producer:
            client: Any = getattr(producer.channel, "client", None)
            if not hasattr(client, "info"):
                return "unknown"
            return str(client.info("server").get("run_id", "unknown"))

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Send them in order: in one round trip, or one by one where that was refused.

        Raises BrokerDown, or SendRefused at the first message that is refused.
        """
        with self._answering() as producer:
            try:
                with producer.batch():
                    for envelope in envelopes:
                        self._publish(producer, envelope)
            except Exception as error:
                # A batch fails as one: find out which message it was.
                if self._is_silence(error):
                    raise
                self._send_singly(producer, envelopes)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                producer.connection.release()

    def _send_singly(self, producer: Any, envelopes: Sequence[Envelope]) -> None:
        for taken, envelope in enumerate(envelopes):
            try:
                self._publish(producer, envelope)
            except Exception as error:
                if self._is_silence(error):
                    raise
                raise SendRefused(taken, error) from error

    def _publish(self, producer: Any, envelope: Envelope) -> None:
        self._celery.send_task(
            envelope.task,
            kwargs=envelope.payload,
            task_id=str(envelope.id),
            queue=envelope.queue,
            headers=envelope.headers,
            producer=producer,
            retry=False,
            ignore_result=True,
            argsrepr="()",
            kwargsrepr="{}",
        )

    @contextlib.contextmanager
    def _answering(self) -> Iterator[Any]:
        try:
            yield self._connected()
        except SendRefused:
            raise
        except Exception as error:
            is_silence = self._is_silence(error)
            self.close()
            if is_silence:
                raise BrokerDown(str(error.__cause__ or error)) from error
            raise

    def _connected(self) -> Any:
        if self._producer is None:
            connection = self._celery.connection_for_write()
            self._silences = (OSError, *connection.connection_errors)
            # Once: kombu's own waiting between attempts would make us deaf to a stop.
            connection.ensure_connection(max_retries=0)
            self._producer = self._celery.amqp.Producer(connection, auto_declare=False)
        return self._producer

    def _is_silence(self, error: Exception) -> bool:
        """Return whether the broker did not answer; kombu wraps that and its refusals in the same errors."""
        return isinstance(error.__cause__ or error, self._silences)
