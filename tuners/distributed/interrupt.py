"""Ctrl-C and SIGTERM, which end a search wherever they land."""

import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """Within it, SIGTERM raises `KeyboardInterrupt` as Ctrl-C does, and neither is lost.

    Python raises it in whatever runs, and drops it where that is a destructor: `check` raises it again.
    Outside of the main thread, and where a program has handlers of its own, nothing is changed.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._replaced: dict[signal.Signals, signal.Handlers | object] = {}

    def check(self) -> None:
        """To be called again and again.

        Raises:
            KeyboardInterrupt: The user has asked for it.
        """
        if self._is_asked:
            raise KeyboardInterrupt

    def __enter__(self) -> "Interrupt":
        self._is_asked = False
        if threading.current_thread() is threading.main_thread():
            usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
            for number, handler in usual.items():
                if signal.getsignal(number) is handler:
                    signal.signal(number, self._raise)
                    self._replaced[number] = handler
        return self

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._is_asked = True
        raise KeyboardInterrupt

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what `getsignal` has given
        self._replaced = {}
        if error is None:
            self.check()
