"""The routes of accounts (`/api/v1/auth`) and API keys (`/api/v1/api-keys`)."""
