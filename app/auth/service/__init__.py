"""Decisions and writes about accounts, sessions and API keys."""
