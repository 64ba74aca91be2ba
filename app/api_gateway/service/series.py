"""The life of the time series of calls: partitions ahead, retention behind."""

from __future__ import annotations

from datetime import datetime, timedelta

from app.api_gateway.models.requests import API_REQUESTS
from app.kit.logging import logger
from app.kit.tenancy import owner_session
from app.kit.timeseries import Upkeep, keep_series
from config import Config

log = logger(__name__)


def keep_api_requests(*, now: datetime, config: Config) -> Upkeep:
    """Keep the series of calls as the settings say; return what was made, dropped and compressed.

    Runs in a transaction of its own; running it twice does no harm.
    """
    with owner_session() as session:
        upkeep = keep_series(
            session,
            API_REQUESTS,
            now=now,
            retention=timedelta(days=config.retention_days),
            compress_after=timedelta(days=config.compress_after_days),
        )
    if upkeep.created or upkeep.dropped or upkeep.compressed:
        log.info(
            "series_kept",
            series=API_REQUESTS.name,
            created=upkeep.created,
            dropped=upkeep.dropped,
            compressed=upkeep.compressed,
        )
    return upkeep
