"""What pages with a table have in common: filters and order in the address."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, BaseModel, Field, model_validator

from services.console.columns import Column, Head, heads
from services.console.listing import Order

LINES = 50


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


FIRST, LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
Moment = Annotated[datetime, AfterValidator(_in_utc), Field(ge=FIRST, le=LAST)]
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Way = Literal["asc", "desc"]
After = Annotated[str, Field(max_length=2000)] | None
FileFormat = Literal["csv", "json"]


class ListingQuery(BaseModel):
    """What a form of filters sends: what is left empty is any."""

    model_config = {"extra": "forbid"}

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, sent: Any) -> Any:
        return {name: value for name, value in sent.items() if value != ""} if isinstance(sent, dict) else sent

    def address(self, path: str, **changes: Any) -> str:
        """Return the address of the same question, but for what is changed; None leaves out."""
        asked = {**self.model_dump(mode="json", exclude_defaults=True), **changes}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return f"{path}?{query}" if query else path

    def heads(self, path: str, columns: Sequence[Column], order: Order) -> list[Head]:
        """Return the heads of the table at a path that is sorted so."""
        way = "desc" if order.descending else "asc"

        def address(sort: str, way: str) -> str:
            return self.address(path, sort=sort, order=way, after=None)

        return heads(columns, sort=order.by.name, way=way, address=address)
