"""The bundle to serve: the one that was given, the one built before, or a new one."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.metrics import Metrics
from app.model.conversion import ConversionError, convert
from app.model.state import State
from app.settings import Settings
from converter.bundle.location import bundles_root, default_bundle_folder
from converter.bundle.opening import Bundle, open_bundle
from converter.bundle.store import tidy
from converter.checkpoint.files import SHIPPED_MODELS, SmallFiles, find_checkpoint
from converter.errors import BundleError, BundleMissingError, CheckpointError, GenaError
from converter.network.description import read_description
from converter.options import macos_here
from converter.paths import existing_folder
from converter.tokenizer import DnaTokenizer

logger = logging.getLogger("gena.lifecycle")


@dataclass(frozen=True)
class ServedBundle:
    """A bundle, opened and checked, and the tokenizer that was read from it."""

    bundle: Bundle
    tokenizer: DnaTokenizer


@dataclass(frozen=True)
class AwaitedModel:
    """A model that is being converted, as far as its tokenizer goes. Nobody has verified it yet.

    Attributes:
        fingerprint: there is none before there is a package.
    """

    name: str
    hidden_size: int
    tokenizer: DnaTokenizer
    fingerprint: None = None


class BundleSource:
    """Finds, checks and, where that is needed, builds the bundle for these settings.

    Args:
        tell: called with every change of the state.
        convert_command: what the converter's process is.

    Attributes:
        awaited: of the checkpoint that is being converted, once the converter has checked what it
            says of itself; None as soon as there is a bundle, or a failure.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        tell: Callable[[State], None],
        convert_command: Sequence[str],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._tell = tell
        self._convert_command = convert_command
        self.awaited: AwaitedModel | None = None

    async def prepare(self) -> ServedBundle:
        """The bundle, opened and checked; converted first where that is needed.

        Raises:
            ConversionError: the checkpoint could not be converted.
            GenaError: the bundle or the checkpoint cannot be used.
        """
        try:
            return await self._prepare()
        finally:
            self.awaited = None

    async def _prepare(self) -> ServedBundle:
        given = self._settings.bundle
        if given is not None:
            await asyncio.to_thread(tidy, given)
            return await asyncio.to_thread(_read, given)
        self._tell(State("loading", "Checking the bundle."))
        folder = self._folder()
        await asyncio.to_thread(tidy, folder)
        current = await asyncio.to_thread(self._read_current, folder)
        if current is not None:
            return current
        await self._convert(folder)
        self._tell(State("loading", "Checking the bundle."))
        return await asyncio.to_thread(_read, folder)

    def _folder(self) -> Path:
        root = bundles_root(self._settings.bundles)
        return default_bundle_folder(self._settings.model, self._settings.revision, root)

    def _read_current(self, folder: Path) -> ServedBundle | None:
        """The bundle of the checkpoint as it is now; None where it has to be built."""
        model = self._settings.model
        try:
            current = _read(folder)
        except BundleMissingError:
            return None
        except BundleError as error:
            logger.warning("%s It is built again.", error)
            return None
        if self._is_too_new(current.bundle):
            logger.warning("%s was built for a newer macOS. It is built again.", folder)
            return None
        # A hub id with its revision names its files; a folder's files may have been changed.
        if model not in SHIPPED_MODELS and existing_folder(model) is None:
            return current
        try:
            files = find_checkpoint(model, self._settings.revision)
        except CheckpointError as error:
            logger.warning("%s The bundle that was built from it is served.", error)
            return current
        if current.bundle.manifest.matches(files):
            return current
        logger.warning("The checkpoint %s has changed. Its bundle is built again.", model)
        return None

    def _is_too_new(self, bundle: Bundle) -> bool:
        """Core ML here would not run it."""
        here = macos_here()
        if here is None or self._settings.runtime in ("torch", "mil"):
            return False
        return here < bundle.manifest.options.macos

    async def _convert(self, folder: Path) -> None:
        model, revision = self._settings.model, self._settings.revision
        begun = "start"
        self._tell(State("converting", f"Converting {model}.", stage=begun, fraction=0.0))

        def on_progress(stage: str, fraction: float, message: str) -> None:
            nonlocal begun
            self._tell(State("converting", message, stage=stage, fraction=fraction))
            if stage != begun:
                begun = stage
                logger.info("conversion: %s", message, extra={"stage": stage})

        conversions = self._metrics.conversions
        try:
            await convert(
                model, revision, folder, on_progress, self._await_model, self._convert_command
            )
        except ConversionError:
            conversions.labels(result="failed").inc()
            raise
        conversions.labels(result="done").inc()

    async def _await_model(self, files: SmallFiles) -> None:
        """Open the tokenizer while the rest is converted.

        Where it cannot be read any more, there is none: the converter, which reads it again, says
        why.
        """
        try:
            described = await asyncio.to_thread(read_description, files)
        except GenaError as error:
            logger.warning("Tokens are not counted before the end of the conversion: %s", error)
            return
        hidden_size = described.config.hidden_size
        self.awaited = AwaitedModel(files.source, hidden_size, described.tokenizer)
        logger.info("tokens are counted")


def _read(folder: Path) -> ServedBundle:
    """What the server itself reads of a bundle; opening it read the tokenizer with the rest."""
    bundle = open_bundle(folder)
    return ServedBundle(bundle, bundle.tokenizer())
