"""Deployments made for callers' credentials and hosts, kept for the next call that brings the same."""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from voxgate_server.config.hosts import Network
from voxgate_server.routing.deployments import Deployment

__all__ = ["DeploymentFactory", "DeploymentPool", "Lease"]

DeploymentFactory = Callable[[str, str, Mapping[str, str], Sequence[Network] | None], Deployment]
"""Makes a deployment of a provider and its model; parameters are `api_key` and `api_base`. The networks are what a
caller's host may lead to, nothing meaning every public address; None: the operator chose the place, wherever it is.
Raises ValueError."""


@dataclass(slots=True)
class _Made:
    deployment: Deployment
    users: int = 0


class Lease:
    """What one call uses of a pool. Give it back with `DeploymentPool.release`."""

    def __init__(self) -> None:
        self.held: dict[str, _Made] = {}


class DeploymentPool:
    """Makes deployments and keeps the latest; what a call uses is never closed under it.

    Args:
        make: Makes them.
        keep: How many are kept that nobody uses.
    """

    def __init__(self, make: DeploymentFactory, *, keep: int = 64) -> None:
        self._make = make
        self._keep = keep
        self._made: OrderedDict[str, _Made] = OrderedDict()
        self._digest_key = secrets.token_bytes(32)
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._made)

    def lend(
        self,
        provider: str,
        model: str,
        params: Mapping[str, str],
        lease: Lease,
        networks: Sequence[Network] | None = None,
    ) -> Deployment:
        """The deployment for these parameters, until the lease is released.

        Raises:
            ValueError: There can be none; the message says why.
        """
        # What may go anywhere is never lent to somebody who may not.
        bounds = None if networks is None else [str(network) for network in networks]
        text = msgspec.json.encode([provider, model, sorted(params.items()), bounds])
        # Keyed: what is kept about a credential must not allow to guess at it.
        digest = hashlib.blake2b(text, key=self._digest_key, digest_size=16).hexdigest()
        made = self._made.get(digest)
        if made is None:
            made = self._made[digest] = _Made(self._make(provider, model, params, networks))
        self._made.move_to_end(digest)
        if digest not in lease.held:
            lease.held[digest] = made
            made.users += 1
            self._shrink()
        return made.deployment

    def release(self, lease: Lease) -> None:
        """Ends a lease."""
        for made in lease.held.values():
            made.users -= 1
        lease.held.clear()
        self._shrink()

    async def aclose(self) -> None:
        """Closes all of them."""
        made = [entry.deployment.provider.aclose() for entry in self._made.values()]
        self._made.clear()
        await asyncio.gather(*made, *self._closing)

    def _shrink(self) -> None:
        surplus = len(self._made) - self._keep
        if surplus <= 0:
            return
        idle = [digest for digest, made in self._made.items() if made.users == 0]
        for digest in idle[:surplus]:
            task = asyncio.ensure_future(self._made.pop(digest).deployment.provider.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
