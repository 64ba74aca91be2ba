"""The catalogue of audit events: `noun.past_participle`. A new event is a new line here."""

from __future__ import annotations

from enum import StrEnum


class AuditEvent(StrEnum):
    """Everything that is ever recorded; names are kept for ever, because logs are."""

    ORGANIZATION_CREATED = "organization.created"
    ORGANIZATION_MFA_POLICY_CHANGED = "organization.mfa_policy_changed"

    USER_REGISTERED = "user.registered"
    USER_CREATED = "user.created"
    USER_PASSWORD_CHANGED = "user.password_changed"  # noqa: S105 - an event
    USER_PASSWORD_RESET = "user.password_reset"  # noqa: S105 - an event

    SESSION_CREATED = "session.created"
    SESSION_REFRESHED = "session.refreshed"
    SESSION_ENDED = "session.ended"
    SESSION_REVOKED = "session.revoked"
    SESSION_PROVEN = "session.proven"

    MFA_ENABLED = "mfa.enabled"
    MFA_DISABLED = "mfa.disabled"
    MFA_RECOVERY_CODES_RENEWED = "mfa.recovery_codes_renewed"
    MFA_RECOVERY_CODE_USED = "mfa.recovery_code_used"
    SESSION_REUSE_DETECTED = "session.reuse_detected"

    API_KEY_CREATED = "api_key.created"
    API_KEY_UPDATED = "api_key.updated"
    API_KEY_ROTATED = "api_key.rotated"
    API_KEY_REVOKED = "api_key.revoked"
    API_KEY_LEAKED = "api_key.leaked"

    PROJECT_CREATED = "project.created"
    PROJECT_UPDATED = "project.updated"
    PROJECT_DELETED = "project.deleted"

    PROVIDER_CREATED = "provider.created"
    PROVIDER_UPDATED = "provider.updated"
    PROVIDER_DELETED = "provider.deleted"
    API_REQUESTS_IMPORTED = "api_requests.imported"

    AUDIT_EXPORTED = "audit.exported"
