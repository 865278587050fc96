"""The files that TensorBoard reads, on disk whenever ``flush`` was called.

tensorboardX's own ``SummaryWriter`` leaves the writing to a thread. When that fails, on a full disk, the run would not
hear of it, and would wait for the thread for ever once its queue is full.
"""

import time
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class Board:
    """Scalars and pictures by step.

    Args:
        folder: where the files go; made if need be.
        start_step: the restored step; what an earlier run wrote past it is hidden.

    Raises:
        OSError: as of any file, here and in the methods.
    """

    def __init__(self, folder: Path, start_step: int):
        folder.mkdir(exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        self._file.write_event(Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a point to a curve."""
        self._add(summary.scalar(name, value), step)

    def picture(self, name: str, pixels: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Adds a picture."""
        self._add(summary.image(name, pixels, dataformats="HWC"), step)

    def flush(self) -> None:
        """Brings to disk what was added."""
        self._file.flush()

    def close(self) -> None:
        """Flushes to disk."""
        self._file.close()

    def _add(self, what: Summary, step: int) -> None:
        self._file.write_event(Event(wall_time=time.time(), step=step, summary=what))
