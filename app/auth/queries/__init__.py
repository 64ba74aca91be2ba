"""Questions about credentials: those before the tenant is known run as dg_system, others as dg_app."""
