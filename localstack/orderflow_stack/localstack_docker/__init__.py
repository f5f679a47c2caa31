"""LocalStack in Docker: its own image, started by `docker compose` with compose.yaml."""
