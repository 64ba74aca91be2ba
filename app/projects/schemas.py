"""What projects take and answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from app.kit.pagination import PageArguments
from app.kit.payload import Moment, Name, Payload, Text, View
from app.projects.slugs import LONGEST_SLUG, SLUG_PATTERN

LONGEST_DESCRIPTION = 2000
MOST_ENVIRONMENTS = 50


def _all_different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("must all be different")
    return names


def _omissible(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


Slug = Annotated[str, StringConstraints(pattern=SLUG_PATTERN, max_length=LONGEST_SLUG)]
Description = Annotated[Text, Field(max_length=LONGEST_DESCRIPTION)]
Environment = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Environments = Annotated[
    list[Environment], Field(max_length=MOST_ENVIRONMENTS), AfterValidator(_all_different)
]
ProjectSort = Literal[
    "name",
    "-name",
    "slug",
    "-slug",
    "created_at",
    "-created_at",
    "updated_at",
    "-updated_at",
]


class ProjectCreate(Payload):
    """A new project."""

    name: Name
    slug: Annotated[Slug | None, Field(description="Default: made from the name")] = None
    description: Description = ""
    environments: Environments = ["production"]


class ProjectReplace(Payload):
    """The whole project as it should be; what is left out falls back to its default."""

    name: Name
    slug: Slug
    description: Description = ""
    environments: Environments = ["production"]
    archived: bool = False


class ProjectUpdate(Payload):
    """What to change; what is left out stays."""

    # The defaults are never read: only what was sent counts, and null is not a value of any.
    name: Annotated[Name, Field(json_schema_extra=_omissible)] = ""
    slug: Annotated[Slug, Field(json_schema_extra=_omissible)] = ""
    description: Annotated[Description, Field(json_schema_extra=_omissible)] = ""
    environments: Annotated[Environments, Field(json_schema_extra=_omissible)] = []
    archived: Annotated[bool, Field(json_schema_extra=_omissible)] = False


class ProjectArguments(PageArguments):
    """Which projects to list, in which order."""

    name: Annotated[
        Text | None, Field(max_length=200, description="The name begins with this, in any case")
    ] = None
    slug: Annotated[
        Text | None, Field(max_length=LONGEST_SLUG, description="The slug begins with this")
    ] = None
    archived: bool | None = None
    sort: ProjectSort = "-created_at"


class ProjectView(View):
    """A project."""

    id: UUID
    name: str
    slug: str
    description: str
    environments: list[str]
    version: int
    created_at: Moment
    updated_at: Moment
    archived_at: Moment | None


class ProjectPage(View):
    """One page of projects."""

    items: list[ProjectView]
    next_cursor: str | None
