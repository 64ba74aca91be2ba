"""The tables of work to be done: messages, runs, dead letters and slots of scheduled jobs."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model

NOW = text("now()")


class OutboxMessage(Model):
    """A task that was asked for and has not ended: Redis only carries copies of this row."""

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("jsonb_typeof(payload) = 'object'", name="payload_is_object"),
        Index("ix_outbox_topic_not_before_id", "topic", "not_before", "id"),
        Index("ix_outbox_sent_to", "sent_to", postgresql_where=text("sent_to IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None]
    # The task's wire name: each topic is sent on its own, so that a failing one blocks no other.
    topic: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    dedup_key: Mapped[str | None] = mapped_column(Text)
    payload: Mapped[dict[str, str]] = mapped_column(JSONB)
    headers: Mapped[dict[str, str]] = mapped_column(JSONB, server_default="{}")
    # When the relay sends it (again): a sent message waits here for its end, then it is deleted.
    not_before: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)
    sends: Mapped[int] = mapped_column(server_default="0")
    # Refused by the broker that many times in a row.
    attempts: Mapped[int] = mapped_column(server_default="0")
    # The broker's life that got it: when that life ends, its memory may be gone.
    sent_to: Mapped[str | None] = mapped_column(Text)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)


class TaskRun(Model):
    """The claim of one task for one key: whatever is delivered twice has one effect."""

    __tablename__ = "task_runs"
    __table_args__ = (
        UniqueConstraint(
            "organization_id", "task", "dedup_key", postgresql_nulls_not_distinct=True
        ),
        CheckConstraint("state IN ('running', 'waiting', 'done', 'dead')", name="state_is_known"),
        Index("ix_task_runs_running", "message_id", postgresql_where=text("state = 'running'")),
        Index(
            "ix_task_runs_finished_at",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None]
    task: Mapped[str] = mapped_column(Text)
    dedup_key: Mapped[str] = mapped_column(Text)
    message_id: Mapped[UUID]
    # The advisory lock that the running transaction holds: free while `running` means killed.
    lock_key: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    # Begun that many times without an end: neither done nor failed.
    deliveries: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    last_error: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class DeadTask(Model):
    """A task that we gave up: a person lists, replays or discards it."""

    __tablename__ = "dead_tasks"
    __table_args__ = (
        CheckConstraint(
            "reason IN ('exhausted', 'killed', 'poison', 'undeliverable')", name="reason_is_known"
        ),
        Index("ix_dead_tasks_died_at", "died_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None]
    task: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    dedup_key: Mapped[str] = mapped_column(Text)
    message_id: Mapped[UUID]
    payload: Mapped[dict[str, str]] = mapped_column(JSONB)
    headers: Mapped[dict[str, str]] = mapped_column(JSONB)
    reason: Mapped[str] = mapped_column(Text)
    last_error: Mapped[str | None] = mapped_column(Text)
    deliveries: Mapped[int]
    failures: Mapped[int]
    died_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)


class JobRun(Model):
    """One slot of a scheduled job: the row is the claim, so two beats start one run."""

    __tablename__ = "job_runs"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    slot: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    message_id: Mapped[UUID]
    claimed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)
