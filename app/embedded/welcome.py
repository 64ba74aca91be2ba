"""What the person at the terminal sees when the product is ready."""

from __future__ import annotations

from config import Config

# The same lines as in the README; a test runs them.
COMMANDS = r"""
# 1. register
TOKEN=$(curl -s $B/auth/register -H 'Content-Type: application/json' -d '{
  "email": "you@example.com", "password": "correct horse battery staple",
  "name": "You", "organization_name": "Yours"}' | sed 's/.*"access_token":"\([^"]*\).*/\1/')

# 2. make a project, and the key with which its services log
PROJECT=$(curl -s $B/projects -H "Authorization: Bearer $TOKEN" \
  -H 'Content-Type: application/json' -d '{"name": "My shop"}' | sed 's/.*"id":"\([^"]*\).*/\1/')
KEY=$(curl -s $B/api-keys -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d "{\"kind\": \"ingest\", \"name\": \"shop\", \"project_id\": \"$PROJECT\"}" | sed 's/.*"key":"\([^"]*\).*/\1/')

# 3. log a call
curl -s $B/api-gateway/requests -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d "{
  \"id\": \"call-1\", \"started_at\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\", \"duration_ms\": 812,
  \"provider\": \"openai\", \"request_model\": \"gpt-4o\",
  \"usage\": {\"input_tokens\": 1200, \"output_tokens\": 300}, \"attribution\": {\"environment\": \"prod\"}}"
"""


def welcome(config: Config) -> str:
    """Return the address, where the data lie, and three commands to try."""
    base = address(config)
    data = config.home if config.embedded else "in the database of DATABASE_URL"
    return (
        f"\nDevGuard runs at {base} (the API: {base}/docs; its data: {data}). Stop it with Ctrl-C.\n"
        f"Three commands to try in another shell:\n\nB={base}/api/v1\n{COMMANDS}"
    )


def address(config: Config) -> str:
    """Return the address of the web server as one types it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{config.port}"
