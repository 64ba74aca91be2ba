"""The embedded PostgreSQL and Redis, and the supervisor: nothing else knows that they exist."""
