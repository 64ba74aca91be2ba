"""What the database's catalogue must say of every tenant table; each check returns what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Container

from sqlalchemy import Connection, text

# Relations with an organization_id, partitions and chunks (which nobody may enter) left out.
TENANT_TABLES = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relrowsecurity AS secured,
       c.relforcerowsecurity AS forced
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN ('public', 'measurements')
"""
DOINGS = "SELECT, INSERT, UPDATE, DELETE"


def tenant_tables(connection: Connection, *, schema: str) -> list[str]:
    """Return the tables of the schema that belong to organizations."""
    rows = connection.execute(
        text(f"SELECT name FROM ({TENANT_TABLES}) t WHERE schema = :schema ORDER BY name"),
        {"schema": schema},
    )
    return [name for (name,) in rows]


def unsecured_tables(connection: Connection) -> list[str]:
    """Tables of `public` without forced row-level security (the two without organization_id too)."""
    rows = connection.execute(
        text(
            f"SELECT name FROM ({TENANT_TABLES}) t WHERE schema = 'public'"
            " AND NOT (secured AND forced)"
            " UNION ALL SELECT relname FROM pg_class"
            " WHERE oid IN ('organizations'::regclass, 'users'::regclass)"
            " AND NOT (relrowsecurity AND relforcerowsecurity)"
        )
    )
    return [f"{name}: row-level security is not enabled and forced" for (name,) in rows]


def open_policies(connection: Connection) -> list[str]:
    """Privileges of dg_app on a secured table that no policy of the organization narrows."""
    wrong = []
    rows = connection.execute(
        text(f"""
        SELECT t.name, doing.name AS doing, doing.letter,
               has_table_privilege('dg_app', t.oid, doing.name) AS granted,
               (SELECT array_agg(concat(pg_get_expr(p.polqual, p.polrelid), ' / ',
                                        pg_get_expr(p.polwithcheck, p.polrelid)))
                FROM pg_policy p
                WHERE p.polrelid = t.oid AND p.polcmd IN (doing.letter, '*')
                AND (p.polroles && ARRAY[0::oid, 'dg_app'::regrole::oid])) AS rules
        FROM ({TENANT_TABLES}) t,
             (VALUES ('SELECT', 'r'::"char"), ('INSERT', 'a'), ('UPDATE', 'w'), ('DELETE', 'd'))
                 AS doing (name, letter)
        WHERE t.schema = 'public'
        """)
    )
    for name, doing, _letter, granted, rules in rows:
        if not granted:
            continue
        if not rules:
            wrong.append(f"{name}: {doing} is granted and no policy says on which rows")
        wrong += [
            f"{name}: the policy of {doing} does not name the current organization: {rule}"
            for rule in rules or ()
            if "app.organization_id" not in rule
        ]
    return wrong


def open_measurements(connection: Connection) -> list[str]:
    """Relations with an organization_id outside `public` that dg_app may touch past their view."""
    rows = connection.execute(
        text(f"""
        SELECT n.nspname, c.relname
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id'
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'public'
        AND has_table_privilege('dg_app', c.oid, '{DOINGS}')
        """)
    )
    return [f"{schema}.{name}: dg_app may touch it directly" for schema, name in rows]


def unguarded_measurements(connection: Connection, *, internal: Container[str]) -> list[str]:
    """Tables of `measurements` without a guard view in `public`."""
    views = dict(
        connection.execute(
            text(
                "SELECT c.relname, concat(array_to_string(c.reloptions, ','), ' ',"
                " pg_get_viewdef(c.oid)) FROM pg_class c"
                " WHERE c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace"
            )
        ).all()
    )
    wrong = []
    for name in tenant_tables(connection, schema="measurements"):
        if name in internal:
            continue
        view = views.get(name, "")
        wrong += [
            f"measurements.{name}: its guard view lacks {part}"
            for part in ("security_barrier", "check_option=cascaded", "app.organization_id")
            if part not in view
        ]
    return wrong


def foreign_keys_across(connection: Connection) -> list[str]:
    """Keys between tenant tables that could point at another organization's row."""
    rows = connection.execute(
        text(f"""
        SELECT k.conname, a.name
        FROM pg_constraint k
        JOIN ({TENANT_TABLES}) a ON a.oid = k.conrelid
        JOIN ({TENANT_TABLES}) b ON b.oid = k.confrelid
        WHERE k.contype = 'f' AND NOT EXISTS (
            -- This key itself, or a wider one over the same columns (tables with shared rows
            -- have both: the narrow one holds where organization_id is NULL).
            SELECT FROM pg_constraint wide, unnest(wide.conkey, wide.confkey) AS pair (own, other)
            JOIN pg_attribute x ON x.attrelid = k.conrelid AND x.attnum = pair.own
            JOIN pg_attribute y ON y.attrelid = k.confrelid AND y.attnum = pair.other
            WHERE wide.contype = 'f' AND wide.conrelid = k.conrelid
            AND wide.confrelid = k.confrelid AND wide.conkey @> k.conkey
            AND x.attname = 'organization_id' AND y.attname = 'organization_id')
        """)
    )
    return [f"{name}: the key {key} does not contain organization_id" for key, name in rows]


def unique_indexes_across(connection: Connection, *, allowed: Container[str]) -> list[str]:
    """Unique indexes by which one organization could learn what another one has."""
    rows = connection.execute(
        text(f"""
        SELECT t.name, i.relname, first.attname,
               x.indisprimary AND x.indnkeyatts = 1 AND first.attname = 'id'
                   AND first.atttypid = 'uuid'::regtype AS is_plain_id
        FROM pg_index x
        JOIN ({TENANT_TABLES}) t ON t.oid = x.indrelid
        JOIN pg_class i ON i.oid = x.indexrelid
        LEFT JOIN pg_attribute first ON first.attrelid = x.indrelid AND first.attnum = x.indkey[0]
        WHERE x.indisunique
        """)
    )
    return [
        f"{name}: the unique index {index} begins with {first}, not with organization_id"
        for name, index, first, is_plain_id in rows
        if first != "organization_id" and not is_plain_id and index not in allowed
    ]


CHECKS: list[Callable[[Connection], list[str]]] = [
    unsecured_tables,
    open_policies,
    open_measurements,
    foreign_keys_across,
]
