"""Start DevGuard on this machine: `python run.py` (settings: .env.example, exit codes: app/embedded/exits.py)."""

import sys

if __name__ == "__main__":
    print("Starting DevGuard ...", flush=True)
    from app.embedded.starting import main

    sys.exit(main())
