"""What the person at the terminal sees when the product is ready."""

from __future__ import annotations

from config import Config


def welcome(config: Config) -> str:
    """Return the address and the three commands to try, the same as in the README."""
    base = address(config)
    return f"""
  DevGuard runs at {base}  (documentation of the API: {base}/docs, stop with Ctrl-C)
  Its data: {config.home if config.embedded else "in the database of DATABASE_URL"}

  Three commands to try, in another shell:

  1. register
     TOKEN=$(curl -s {base}/api/v1/auth/register -H 'Content-Type: application/json' -d '{{
       "email": "you@example.com", "password": "correct horse battery staple",
       "name": "You", "organization_name": "Yours"}}' | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/')

  2. make a project and its ingest key
     PROJECT=$(curl -s {base}/api/v1/projects -H "Authorization: Bearer $TOKEN" \\
       -H 'Content-Type: application/json' -d '{{"name": "My shop"}}' | sed 's/.*"id":"\\([^"]*\\).*/\\1/')
     KEY=$(curl -s {base}/api/v1/api-keys -H "Authorization: Bearer $TOKEN" \\
       -H 'Content-Type: application/json' -d "{{\\"kind\\": \\"ingest\\", \\"name\\": \\"shop\\",
       \\"project_id\\": \\"$PROJECT\\"}}" | sed 's/.*"key":"\\([^"]*\\).*/\\1/')

  3. log a call; the answer is what it cost
     curl -s {base}/api/v1/api-gateway/requests -H "Authorization: Bearer $KEY" \\
       -H 'Content-Type: application/json' -d "{{\\"id\\": \\"call-1\\",
       \\"started_at\\": \\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\\", \\"provider\\": \\"openai\\",
       \\"request_model\\": \\"gpt-4o\\", \\"usage\\": {{\\"input_tokens\\": 1200, \\"output_tokens\\": 300}}}}"
"""


def address(config: Config) -> str:
    """Return the address of the web server as one types it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.host, config.host)  # noqa: S104
    return f"http://{host}:{config.port}"
