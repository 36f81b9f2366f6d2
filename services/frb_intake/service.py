"""Puts frb_intake together: two doors, feeds from other observatories, a look through the images."""

from collections.abc import Sequence
from http import HTTPStatus

import httpx
from fastapi import FastAPI

from services.frb_intake import domain
from services.frb_intake.accounts import Accounts
from services.frb_intake.api.auth import Doorkeeper
from services.frb_intake.api.compat import compat_router
from services.frb_intake.api.session import session_router
from services.frb_intake.api.slack import slack_router
from services.frb_intake.api.v1 import v1_router
from services.frb_intake.checking import ImageChecker, complaints
from services.frb_intake.domain import TransitionError, WithdrawnError
from services.frb_intake.feeds.subscriptions import subscriptions
from services.frb_intake.follow import Follower
from services.frb_intake.handlers import FeedHandler
from services.frb_intake.intake import Intake, KeyReusedError, NotYoursError, UnknownBurstError
from services.frb_intake.naming import Namer
from services.frb_intake.oidc import IdentityVerifier
from services.frb_intake.pruning import Pruner
from services.frb_intake.reading import BurstReader
from services.frb_intake.related import coincidences, deliveries
from services.frb_intake.settings import NAME, FrbIntakeSettings
from shared.events.blob import BlobRef
from shared.http.limits import RequestLimits, SecurityHeaders
from shared.http.problems import install_problem_handlers
from shared.http.rate_limit import RateLimiter
from shared.inbox.heartbeats import Heartbeats
from shared.runner import Runtime, Service, ServiceDefinition

VERIFICATIONS_PER_S = 2.0
VERIFICATIONS_BURST = 50
# Of one address: enough for an office behind one, hopeless for guessing.

MAX_TEXT_BYTES = 1024 * 1024
# A request without files holds a few kilobytes.


def define(settings: FrbIntakeSettings) -> ServiceDefinition:
    """Return the service for these settings."""
    return ServiceDefinition(name=NAME, build=lambda runtime: _build(settings, runtime))


def _build(settings: FrbIntakeSettings, runtime: Runtime) -> Service:
    domain.warm_up()
    section = settings.frb_intake
    rule = domain.VoteRule(
        confirm_votes=section.confirm_votes,
        max_reject_votes=section.max_reject_votes,
        reject_votes=section.reject_votes,
        max_confirm_votes=section.max_confirm_votes,
    )
    intake = Intake(runtime.pool, runtime.blobs, observatory=section.observatory, vote_rule=rule)
    reader = BurstReader(runtime.pool)
    follower = Follower(reader, max_anonymous=section.max_anonymous_followers)
    doorkeeper = Doorkeeper(
        Accounts(runtime.pool, trust_s=section.credential_cache_s),
        requests=RateLimiter(rate_per_s=section.requests_per_s, burst=section.requests_burst),
        verifications=RateLimiter(rate_per_s=VERIFICATIONS_PER_S, burst=VERIFICATIONS_BURST),
        public_reading=section.public_reading,
    )

    verifier = (
        IdentityVerifier(httpx.AsyncClient(follow_redirects=False), section.oidc) if section.oidc is not None else None
    )
    heartbeats = Heartbeats(NAME)
    notices = subscriptions(
        section.sources,
        own=settings.kafka if section.own_topics else None,
        pool=runtime.pool,
        blobs=runtime.blobs,
        heartbeats=heartbeats,
        handle=FeedHandler(observatory=section.observatory).on_notice,
    )

    async def look_through(images: Sequence[BlobRef]) -> list[str | None]:
        return await runtime.background.run(complaints, settings.blobs, images)

    def configure(app: FastAPI) -> None:
        install_problem_handlers(
            app,
            statuses={
                UnknownBurstError: HTTPStatus.NOT_FOUND,
                WithdrawnError: HTTPStatus.CONFLICT,
                TransitionError: HTTPStatus.CONFLICT,
                KeyReusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
                NotYoursError: HTTPStatus.FORBIDDEN,
            },
        )
        app.add_middleware(
            RequestLimits,
            max_body_bytes=section.max_body_bytes,
            max_text_bytes=MAX_TEXT_BYTES,
            body_timeout_s=section.body_timeout_s,
        )
        app.add_middleware(SecurityHeaders)

    namer = Namer(from_sandbox=section.names_from_sandbox)
    return Service(
        subscriptions=[*notices, coincidences(), deliveries(namer)],
        sources=heartbeats.as_json,
        background=[
            ImageChecker(runtime.pool, complaints=look_through).run,
            Pruner(runtime.pool, staged_hours=section.staged_hours).run,
            follower.run,
        ],
        routers=[
            compat_router(intake, doorkeeper, section),
            v1_router(
                intake=intake,
                reader=reader,
                doorkeeper=doorkeeper,
                blobs=runtime.blobs,
                follower=follower,
                settings=section,
            ),
            session_router(doorkeeper, verifier),
            *([slack_router(intake, section.slack_signing_secret)] if section.slack_signing_secret else []),
        ],
        configure=configure,
    )
