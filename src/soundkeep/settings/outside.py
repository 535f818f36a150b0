"""Who else may ask, and who is asked: aliases, hooks, and addresses that come from data."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from soundkeep.settings.base import Table
from soundkeep.settings.secrets import SecretReference

AliasName: TypeAlias = Literal["vocalize", "temp-audio", "voice", "sync-to-cdn", "retry-ipfs"]
SPEAKING_ALIASES = frozenset({"vocalize", "voice"})


class AliasesSettings(Table):
    """What clients of other systems call."""

    enabled: tuple[AliasName, ...] = ()
    public: bool = False  # confirmed: everybody may hear what they have said
    anonymous: tuple[AliasName, ...] = ()  # these need no key
    anonymous_per_minute: int = Field(30, ge=1)  # calls of one address

    @model_validator(mode="after")
    def _answers_must_play(self) -> AliasesSettings:
        if "retry-ipfs" in self.anonymous:
            raise ValueError("retry-ipfs is for who has the admin key")
        speaking = sorted(SPEAKING_ALIASES & set(self.enabled))
        if speaking and not self.public:
            raise ValueError(
                f"{speaking[0]} answers with addresses that everybody can play: "
                "confirm that with aliases.public = true"
            )
        return self


class OutboundSettings(Table):
    """How addresses are asked that come from data, such as an imported table."""

    allow: tuple[str, ...] = ()  # networks of this installation's own, as 10.1.0.0/16
    seconds: float = Field(300, gt=0)  # for one address, redirects and body included

    @field_validator("allow")
    @classmethod
    def _networks_are_networks(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for network in allow:
            ip_network(network)  # its ValueError says what is wrong
        return allow


class HookSettings(Table):
    """Another program that may ask for things by signed requests."""

    secret: SecretReference
