"""Registering, signing in and out, and the password."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from flask import Blueprint, Response, current_app, request

from app.audit.context import act_as
from app.auth.passwords import PasswordHasher
from app.auth.schemas import (
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
from app.auth.service.sessions import Origin, SessionGrant
from app.auth.tokens import AccessClaims, access_token_lifetime_s, issue_access_token
from app.kit.actor import Actor
from app.kit.endpoint import actor, body, created, endpoint, no_content, ok
from app.kit.errors import Forbidden, Unauthorized
from app.kit.problems import problem
from app.kit.rate_limits import RateClass
from app.organizations.queries import get_member, get_organization_name
from app.organizations.roles import ACCOUNT_READ, ACCOUNT_WRITE
from config import Config

blueprint = Blueprint("auth", __name__)
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
    if not _config().registration_open:
        raise Forbidden("the operator registers people here", code="registration_closed")
    wanted = body(RegistrationCreate)
    now = datetime.now(UTC)
    proven = accounts.register_account(
        registration=Registration(**wanted.model_dump()),
        hasher=PasswordHasher.of(_config()),
        doer=None,
        ip=request.remote_addr,
        now=now,
    )
    return _unstored(created(_signed_in(proven, _session_opened(proven, now=now))))


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

    A wrong password, an unknown address and a disabled account answer 401 alike.
    """
    typed = body(LoginCreate)
    proven = accounts.proven_user(
        email=typed.email,
        password=typed.password,
        hasher=PasswordHasher.of(_config()),
        ip=request.remote_addr,
    )
    return _unstored(ok(_signed_in(proven, _session_opened(proven, now=datetime.now(UTC)))))


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
        now=datetime.now(UTC),
    )
    if grant is None:
        # Answered, not raised: the end of a session whose token was reused is to be committed.
        return problem(Unauthorized("the refresh token is not valid", code="invalid_refresh_token"))
    return _unstored(ok(_tokens(grant)))


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
    sessions.end_session(session_id=_session_of(who), label=who.label, now=datetime.now(UTC))
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
    session_id, user_id = _session_of(who), _user_of(who)
    wanted = body(PasswordChange)
    now = datetime.now(UTC)
    epoch = accounts.change_password(
        user_id=user_id,
        current=wanted.current_password,
        new=wanted.new_password,
        hasher=PasswordHasher.of(_config()),
        now=now,
    )
    grant = sessions.carry_session_over(
        user_id=user_id, session_id=session_id, epoch=epoch, now=now
    )
    return ok(_tokens(grant))


def _unstored(response: Response) -> Response:
    # An answer that holds tokens is cached by nobody (RFC 6749 section 5.1).
    response.headers["Cache-Control"] = "no-store"
    return response


def _config() -> Config:
    config: Config = current_app.extensions["devguard"]
    return config


def _session_opened(proven: ProvenUser, *, now: datetime) -> SessionGrant:
    return sessions.open_session(
        user_id=proven.user_id,
        label=proven.email,
        epoch=proven.epoch,
        lifetime=timedelta(days=_config().refresh_token_days),
        origin=Origin(ip=request.remote_addr, user_agent=request.headers.get("User-Agent")),
        now=now,
    )


def _signed_in(proven: ProvenUser, grant: SessionGrant) -> SignedInView:
    member = get_member(organization_id=proven.organization_id, user_id=proven.user_id)
    return SignedInView(
        **_tokens(grant).model_dump(),
        user=UserView(id=member.user_id, email=member.email, name=member.name),
        organization=OrganizationView(id=member.organization_id, name=member.organization_name),
        role=member.role,
    )


def _tokens(grant: SessionGrant) -> TokensView:
    claims = AccessClaims(
        user_id=grant.user_id,
        organization_id=grant.organization_id,
        session_id=grant.session_id,
        epoch=grant.epoch,
    )
    return TokensView(
        access_token=issue_access_token(claims),
        token_type="Bearer",  # noqa: S106 - the kind of token, not one
        expires_in_s=access_token_lifetime_s(),
        refresh_token=grant.refresh_token,
        refresh_expires_at=grant.expires_at,
    )


def _user_view(organization_id: UUID, user_id: UUID) -> UserView:
    member = get_member(organization_id=organization_id, user_id=user_id)
    return UserView(id=member.user_id, email=member.email, name=member.name)


def _organization_view(organization_id: UUID) -> OrganizationView:
    return OrganizationView(
        id=organization_id, name=get_organization_name(organization_id=organization_id)
    )


def _session_of(who: Actor) -> UUID:
    if who.session_id is None:
        raise Forbidden("this needs a session, not a key", code="session_required")
    return who.session_id


def _user_of(who: Actor) -> UUID:
    if who.user_id is None:
        raise Forbidden("this needs a session, not a key", code="session_required")
    return who.user_id
