"""Registering, signing in and out, and the password."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from flask import Response, request

from app.audit.context import act_as
from app.auth.challenges import LIFETIME, Challenge, new_challenge
from app.auth.passwords import PasswordHasher
from app.auth.routes.answers import lifetimes, session_opened, signed_in, tokens, unstored
from app.auth.routes.bearer import session_of, user_of
from app.auth.routes.blueprint import auth as blueprint
from app.auth.routes.guards import password_guard, settings
from app.auth.schemas.accounts import (
    LoginCreate,
    MeView,
    OrganizationView,
    PasswordChange,
    RefreshCreate,
    RegistrationCreate,
    SignedInView,
    TokensView,
    UserView,
)
from app.auth.service import accounts, sessions
from app.auth.service.accounts import ProvenUser, Registration
from app.kit.endpoint import actor, body, created, endpoint, no_content, ok
from app.kit.errors import Forbidden, Unauthorized
from app.kit.problems import problem
from app.kit.rate_limits import RateClass
from app.organizations.queries import get_member, get_organization_name
from app.organizations.roles import ACCOUNT_READ, ACCOUNT_WRITE

NO_CREDENTIAL_YET = "this is how one gets a credential"


@blueprint.teardown_app_request
def forget_doer(_error: BaseException | None) -> None:
    """Forget for whom the request acted: the next one of this greenlet begins as nobody."""
    act_as(None)


@endpoint(
    blueprint,
    "POST",
    "/register",
    public=NO_CREDENTIAL_YET,
    rate=RateClass.AUTH,
    body=RegistrationCreate,
    answers={201: SignedInView},
    errors=(403, 409),
    audit="user.registered",
)
def register() -> Response:
    """Register a person and found his organization.

    Answers the credentials of a first session. 409 `email_taken` says that an address is in use:
    without a mail server there is no other way to tell its owner. 403 `registration_closed` where
    the operator registers people himself.
    """
    if not settings().registration_open:
        raise Forbidden("the operator registers people here", code="registration_closed")
    wanted = body(RegistrationCreate)
    now = datetime.now(UTC)
    proven = accounts.register_account(
        registration=Registration(**wanted.model_dump()),
        hasher=PasswordHasher.of(settings()),
        doer=None,
        ip=request.remote_addr,
        now=now,
    )
    return unstored(created(signed_in(proven, session_opened(proven, now=now), now=now)))


@endpoint(
    blueprint,
    "POST",
    "/login",
    public=NO_CREDENTIAL_YET,
    rate=RateClass.AUTH,
    body=LoginCreate,
    answers={200: SignedInView},
    errors=(401, 403),
    audit="session.created",
)
def login() -> Response:
    """Sign in with e-mail and password.

    Who has a second factor is answered 401 `mfa_required` with a `challenge` for
    `POST /api/v1/auth/login/mfa`. A wrong password, an unknown address and a disabled account answer 401 alike. Too many of them
    from one place answer 429 `too_many_attempts`; the `device_token` of an earlier answer makes this
    device a place of its own, which strangers cannot use up.
    """
    typed, now = body(LoginCreate), datetime.now(UTC)
    proven = accounts.proven_user(
        email=typed.email,
        password=typed.password,
        hasher=PasswordHasher.of(settings()),
        guard=password_guard(device_token=typed.device_token),
        now=now,
    )
    if proven.has_mfa:
        # Answered, not raised: the password's hash may have been renewed.
        return unstored(problem(_mfa_required(proven, now=now)))
    return unstored(ok(signed_in(proven, session_opened(proven, now=now), now=now)))


@endpoint(
    blueprint,
    "GET",
    "/me",
    scope=ACCOUNT_READ,
    rate=RateClass.READ,
    answers={200: MeView},
)
def show_me() -> Response:
    """Show whose credential this is and what it may do."""
    who = actor()
    return ok(
        MeView(
            user=_user_view(who.organization_id, who.user_id) if who.user_id else None,
            organization=_organization_view(who.organization_id),
            role=who.role,
            scopes=sorted(who.scopes),
        )
    )


@endpoint(
    blueprint,
    "POST",
    "/refresh",
    public="the refresh token in the body is the credential",
    rate=RateClass.AUTH,
    body=RefreshCreate,
    answers={200: TokensView},
    errors=(401,),
    unaudited="the session itself notes when it was renewed; reuse of a token is recorded",
)
def refresh() -> Response:
    """Renew a session: a refresh token works once and is answered with the next one.

    The same token within ten seconds is refused without consequence (two tabs at once); later it
    ends the session, because one of the two who hold it has stolen it.
    """
    grant = sessions.renew_session(
        refresh_token=body(RefreshCreate).refresh_token,
        ip=request.remote_addr,
        idle=lifetimes().idle,
        now=datetime.now(UTC),
    )
    if grant is None:
        # Answered, not raised: the end of a session whose token was reused is to be committed.
        return problem(Unauthorized("the refresh token is not valid", code="invalid_refresh_token"))
    return unstored(ok(tokens(grant)))


@endpoint(
    blueprint,
    "POST",
    "/logout",
    scope=ACCOUNT_WRITE,
    rate=RateClass.WRITE,
    answers={204: None},
    audit="session.ended",
)
def logout() -> Response:
    """End this session; its access and refresh tokens are refused from now on."""
    who = actor()
    sessions.end_session(session_id=session_of(who), label=who.label, now=datetime.now(UTC))
    return no_content()


@endpoint(
    blueprint,
    "POST",
    "/change-password",
    scope=ACCOUNT_WRITE,
    rate=RateClass.AUTH,
    body=PasswordChange,
    answers={200: TokensView},
    audit="user.password_changed",
    unreplayed="the answer holds tokens",
)
def change_password() -> Response:
    """Change the password; ends every other session and answers new credentials for this one.

    403 `wrong_password` when the current password is not right.
    """
    who = actor()
    session_id, user_id = session_of(who), user_of(who)
    wanted = body(PasswordChange)
    now = datetime.now(UTC)
    epoch = accounts.change_password(
        user_id=user_id,
        current=wanted.current_password,
        new=wanted.new_password,
        hasher=PasswordHasher.of(settings()),
        guard=password_guard(session_id=session_id),
        now=now,
    )
    grant = sessions.carry_session_over(
        user_id=user_id,
        session_id=session_id,
        epoch=epoch,
        because="password_changed",
        now=now,
    )
    return ok(tokens(grant))


def _user_view(organization_id: UUID, user_id: UUID) -> UserView:
    member = get_member(organization_id=organization_id, user_id=user_id)
    return UserView(id=member.user_id, email=member.email, name=member.name)


def _organization_view(organization_id: UUID) -> OrganizationView:
    return OrganizationView(
        id=organization_id, name=get_organization_name(organization_id=organization_id)
    )


def _mfa_required(proven: ProvenUser, *, now: datetime) -> Unauthorized:
    challenge = new_challenge(
        Challenge(proven.user_id, proven.epoch), secret=settings().secret_key, now=now
    )
    return Unauthorized(
        "the password is right; send a code to /api/v1/auth/login/mfa",
        code="mfa_required",
        members={"challenge": challenge, "expires_in_s": int(LIFETIME.total_seconds())},
    )
