"""`taskvectors play`: the playground in the browser."""

import logging
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from taskvectors.cli.arguments import Output, VectorModelChoice, default
from taskvectors.cli.folders import user_folder
from taskvectors.cli.results import Result
from taskvectors.cli.unused import given, refuse
from taskvectors.errors import DataError, TaskVectorsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskvectors.experiments import ModelConfig
    from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Play:
    """Try vectors in the browser, and watch a small learner grow; Ctrl-C ends it.

    The page asks nothing of the internet. Who can open it can use the model and see the vectors'
    names, so it listens on this machine alone unless --host says otherwise.
    """

    vectors: Annotated[
        tuple[str, ...],
        arg(metavar="FOLDER ...", help_behavior_hint="(default: those among the user's data)"),
    ] = ()
    """Folders of vectors or runs, or that hold such."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: Annotated[int | None, default("the first free one from 7860")] = None
    """Port to listen on."""
    open: bool = False
    """Open the page in the browser."""
    model: VectorModelChoice
    output: Output

    def run(self) -> Result:
        """Show the page until Ctrl-C."""
        from taskvectors.play import Playground, load_vectors
        from taskvectors.play.page import check_installed, serve

        check_installed()
        refuse(given(self.model, "memory"), "one prompt is run at a time")
        self._check_address()
        places = self._places()
        found = load_vectors(places)
        logger.info("Loading the model")
        model = self._model(found).load()
        address, close = serve(
            Playground(model=model, vectors=found),
            places,
            host=self.host,
            port=self.port,
            open_browser=self.open,
        )
        logger.info("The playground is at %s (Ctrl-C ends it)", address)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            logger.info("The playground has ended")
        finally:
            close()
        data = {"address": address, "model": model.source, "vectors": list(found)}
        return Result(data=data, shown=[f"The playground was at {address}"])

    def _check_address(self) -> None:
        """Listen for a moment: what cannot be listened on is said before the model is loaded."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            socket.create_server((self.host, self.port or 0), family=family).close()
        except (OSError, UnicodeError) as error:
            where = self.host if self.port is None else f"{self.host}, port {self.port},"
            raise TaskVectorsError(
                f"nothing can listen on {where} here ({getattr(error, 'strerror', '') or error}); "
                "give another --host or --port"
            ) from error

    def _places(self) -> list[Path]:
        if not self.vectors:
            return [user_folder("vectors"), user_folder("runs")]
        places = [Path(place).expanduser() for place in self.vectors]
        missing = [place for place in places if not place.is_dir()]
        if missing:
            raise DataError(f"there is no folder {missing[0]}; name one that holds vectors")
        return places

    def _model(self, found: "Mapping[str, TaskVector]") -> "ModelConfig":
        """The model that was named, else that of the vectors that were, else the embedded one."""
        homes = {vector.origin.location or vector.origin.model for vector in found.values()}
        if not self.model.model and self.vectors and len(homes) == 1 and homes != {""}:
            return self.model.config_for(next(iter(found.values())))
        return replace(self.model, model=self.model.model or "embedded").config()
