"""Second factors: the login's second step, enrolment, recovery codes, the organization's rule."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Response

from app.auth.queries.factors import factor_overview, is_mfa_required
from app.auth.routes.answers import recently_proven, session_opened, signed_in, tokens, unstored
from app.auth.routes.bearer import session_of, user_of
from app.auth.routes.blueprint import auth as blueprint
from app.auth.routes.guards import password_guard, settings
from app.auth.schemas.accounts import SignedInView, TokensView
from app.auth.schemas.factors import (
    LoginMfaCreate,
    MfaEnabledView,
    MfaPolicy,
    MfaPolicyView,
    MfaView,
    RecoveryCodesView,
    TotpConfirmation,
    TotpOfferView,
)
from app.auth.service import accounts, factors, sessions
from app.auth.service.sessions import SessionGrant
from app.kit.endpoint import actor, body, created, endpoint, ok
from app.kit.rate_limits import RateClass
from app.organizations.roles import ACCOUNT_READ, ACCOUNT_WRITE

MFA = "/mfa"


@endpoint(
    blueprint,
    "POST",
    "/login/mfa",
    public="the challenge in the body is the credential",
    rate=RateClass.AUTH,
    body=LoginMfaCreate,
    answers={200: SignedInView},
    errors=(401, 403),
    audit="session.created",
)
def login_by_code() -> Response:
    """Finish signing in with a second factor.

    `challenge` is that of the 401 `mfa_required` of `POST /api/v1/auth/login`, good for five minutes.
    Each code works once. A recovery code is taken also when too many codes of the app were wrong.
    """
    typed, now = body(LoginMfaCreate), datetime.now(UTC)
    proven = accounts.proven_by_code(
        challenge=typed.challenge,
        code=typed.code,
        guard=password_guard(device_token=typed.device_token),
        now=now,
    )
    return unstored(ok(signed_in(proven, session_opened(proven, now=now), now=now)))


@endpoint(blueprint, "GET", MFA, scope=ACCOUNT_READ, rate=RateClass.READ, answers={200: MfaView})
def show_mfa() -> Response:
    """Show one's second factor, and whether the organization wants one."""
    who = actor()
    overview = factor_overview(user_id=user_of(who))
    return ok(
        MfaView(
            totp_enabled=overview.enabled_at is not None,
            enabled_at=overview.enabled_at,
            recovery_codes_left=overview.recovery_codes_left,
            required=is_mfa_required(organization_id=who.organization_id),
        )
    )


@endpoint(
    blueprint,
    "POST",
    f"{MFA}/totp",
    scope=ACCOUNT_WRITE,
    rate=RateClass.AUTH,
    answers={201: TotpOfferView},
    errors=(409,),
    unaudited="an offer changes nothing until it is confirmed",
    unreplayed="the secret of a factor is shown once",
)
def create_totp() -> Response:
    """Offer a new authenticator app: its secret, shown this once, as text, URI and QR code (SVG).

    Needs a fresh proof (403 `step_up_required`). 409 `mfa_enrolled` when one is enrolled.
    """
    who, now = actor(), datetime.now(UTC)
    recently_proven(now=now)
    offer = factors.offer_totp(
        user_id=user_of(who), email=who.label, key=settings().secret_key, now=now
    )
    view = TotpOfferView(secret=offer.secret, otpauth_uri=offer.uri, qr_svg=offer.qr_svg)
    return unstored(created(view))


@endpoint(
    blueprint,
    "POST",
    f"{MFA}/totp/confirm",
    scope=ACCOUNT_WRITE,
    rate=RateClass.AUTH,
    body=TotpConfirmation,
    answers={200: MfaEnabledView},
    errors=(409,),
    audit="mfa.enabled",
    unreplayed="the answer holds tokens and codes",
)
def confirm_totp() -> Response:
    """Enrol the offered app by a code of it; answers recovery codes and new credentials.

    Every other session ends. 403 `wrong_code`, 409 `mfa_not_offered`.
    """
    who, now = actor(), datetime.now(UTC)
    recently_proven(now=now)
    codes = factors.confirm_totp(
        user_id=user_of(who),
        email=who.label,
        code=body(TotpConfirmation).code,
        key=settings().secret_key,
        guard=password_guard(session_id=session_of(who)),
        now=now,
    )
    view = MfaEnabledView(**tokens(_carried_over(now)).model_dump(), recovery_codes=codes)
    return unstored(ok(view))


@endpoint(
    blueprint,
    "POST",
    f"{MFA}/totp/disable",
    scope=ACCOUNT_WRITE,
    rate=RateClass.AUTH,
    answers={200: TokensView},
    errors=(409,),
    audit="mfa.disabled",
    unreplayed="the answer holds tokens",
)
def disable_totp() -> Response:
    """Remove one's authenticator app and recovery codes; every other session ends.

    Needs a fresh proof (403 `step_up_required`).
    """
    who, now = actor(), datetime.now(UTC)
    recently_proven(now=now)
    factors.disable_totp(user_id=user_of(who), email=who.label)
    return unstored(ok(tokens(_carried_over(now))))


@endpoint(
    blueprint,
    "POST",
    f"{MFA}/recovery-codes",
    scope=ACCOUNT_WRITE,
    rate=RateClass.AUTH,
    answers={201: RecoveryCodesView},
    errors=(409,),
    audit="mfa.recovery_codes_renewed",
    unreplayed="the codes are shown once",
)
def create_recovery_codes() -> Response:
    """Make ten new recovery codes; the earlier ones are void. Needs a fresh proof."""
    who, now = actor(), datetime.now(UTC)
    recently_proven(now=now)
    codes = factors.renew_recovery_codes(user_id=user_of(who), email=who.label, now=now)
    return unstored(created(RecoveryCodesView(recovery_codes=codes)))


@endpoint(
    blueprint,
    "GET",
    f"{MFA}/policy",
    scope="organization:read",
    rate=RateClass.READ,
    answers={200: MfaPolicyView},
)
def show_mfa_policy() -> Response:
    """Show whether the organization wants a second factor of its members."""
    required = is_mfa_required(organization_id=actor().organization_id)
    return ok(MfaPolicyView(mfa_required=required))


@endpoint(
    blueprint,
    "PUT",
    f"{MFA}/policy",
    scope="organization:write",
    rate=RateClass.WRITE,
    body=MfaPolicy,
    answers={200: MfaPolicyView},
    errors=(409,),
    audit="organization.mfa_policy_changed",
)
def replace_mfa_policy() -> Response:
    """Say whether members need a second factor; who has none may then only enrol one.

    Needs a fresh proof. 409 `mfa_not_enrolled` for an owner who has none himself.
    """
    wanted = body(MfaPolicy)
    recently_proven(now=datetime.now(UTC))
    factors.require_mfa(user_id=user_of(actor()), is_required=wanted.mfa_required)
    return ok(MfaPolicyView(mfa_required=wanted.mfa_required))


def _carried_over(now: datetime) -> SessionGrant:
    who = actor()
    return sessions.carry_session_over(
        user_id=user_of(who),
        session_id=session_of(who),
        epoch=factors.new_epoch(user_id=user_of(who)),
        because="factor_changed",
        now=now,
    )
