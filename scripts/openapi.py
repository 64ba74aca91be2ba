"""Write docs/openapi.json from the declared endpoints: `python scripts/openapi.py` (or `make openapi`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from app import create_app  # noqa: E402
from app.kit.openapi import openapi_document  # noqa: E402
from config import Config  # noqa: E402


def main() -> None:
    # Nothing is asked of these servers: the description comes from the code alone.
    secret = "0123456789abcdef" * 2
    config = Config.from_environment(
        {
            "DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
            "REDIS_URL": "redis://127.0.0.1/0",
            "SECRET_KEY": secret,
            "JWT_SECRET_KEY": secret,
        }
    )
    app = create_app(config)
    with app.app_context():
        document = openapi_document(app)
    path = ROOT / "docs" / "openapi.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(document['paths'])} paths")


if __name__ == "__main__":
    main()
