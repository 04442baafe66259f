"""Who listens to a run: it writes the two files, and tells the person at the terminal."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from app.doctor.evidence import shown_steps
from app.doctor.examination import STEPS, TITLES, Step
from app.doctor.redaction import Redaction
from app.doctor.rendering import page, summary
from app.doctor.report import Report, StepReport
from app.unproven import shown_by
from converter.errors import GenaError
from converter.replacing import replace_file

_REWRITE = "\r\x1b[K"


class Recorder:
    """Writes and tells.

    Args:
        file: of the page; the JSON lies beside it.
        redaction: of what must not be in either.
        require_none: raises KeyboardInterrupt where somebody wants an end.

    Attributes:
        report: as it was written last.
    """

    def __init__(
        self, file: Path, redaction: Redaction, report: Report, require_none: Callable[[], None]
    ) -> None:
        self.report = report
        self._file, self._data = file, file.with_suffix(".json")
        self._redaction = redaction
        self._require_none = require_none
        self._number = 0
        self._write()  # where nothing can be written, that is said before anything is done

    def start(self) -> None:
        """The first words of a run."""
        _line("gena doctor tries all that this project does, which takes half an hour or more.")
        _line("Ctrl-C ends it; what was found until then is kept.")
        _line("")

    def begun(self, step: Step) -> None:
        """See `Listener`."""
        self._number += 1
        _line(f"[{self._number}/{len(STEPS)}] {step.title}")

    def say(self, text: str) -> None:
        """What is done now."""
        shown = f"       {self._redaction.text(text)}"
        if sys.stdout.isatty():
            print(_REWRITE + shown[:78], end="", flush=True)
        else:
            _line(shown)

    def found(self, report: Report) -> None:
        """See `Listener`."""
        private = report.model_dump(mode="json")
        public = Report.model_validate_json(json.dumps(self._redaction.document(private)))
        self.report = public.model_copy(update={"shown": shown_by(shown_steps(public))})
        self._write()
        self._require_none()

    def ended(self, step: StepReport) -> None:
        """See `Listener`."""
        _line(f"       {step.verdict}, {step.seconds:.1f} s")
        why = [step.reason] if step.verdict == "skipped" and step.reason else step.complaints
        for each in why:
            _line(f"       - {self._redaction.text(each)}")

    def finish(self) -> None:
        """The last words of a run: what came of it, where it lies, what to do with it."""
        _line("")
        _line(f"Done: {summary(self.report)}.")
        for step in self.report.having("failed"):
            _line(f"  failed: {TITLES[step.name]}")
        if self.report.interrupted:
            _line("  It was interrupted; what was found until then is in the report.")
        _line("")
        _line("The report, for people and for programs:")
        _line(f"  {self._file.absolute()}")
        _line(f"  {self._data.absolute()}")
        _line("It holds no paths, no names and no DNA. Paste the first into an issue of this")
        _line("project, and attach the second, also where all is well: no Mac has run all of it.")

    def _write(self) -> None:
        try:
            replace_file(self._file, page(self.report).encode())
            text = self.report.model_dump_json(indent=2, exclude_none=True)
            replace_file(self._data, f"{text}\n".encode())
        except OSError as error:
            raise GenaError(
                f"The report cannot be written to {self._file} ({error.strerror}). Name another "
                "file with --report."
            ) from error


def _line(text: str) -> None:
    print((_REWRITE if sys.stdout.isatty() else "") + text, flush=True)
