"""What becomes of records that cannot be read where a run shall go on without them (``data.on_error = skip``).

What shows when a data set is opened (a mask without its photo, a damaged file) is left out there and then. What shows
only when a record is decoded is answered with the next record that can be read. Either way what an index gives is a
function of the files alone, so the order of training stays one of seed and step, and a run resumes exactly.
"""

from input_pipeline.records import DataError, Meaning, Record, Source

Faults = dict[str, str]
"""What was left out when a data set was opened: why, by name."""


class Skipping:
    """A source in which another record stands in for one that cannot be read.

    The other record says so in ``stands_in_for``; it counts in training, and not in evaluation, which sees it anyway.

    Args:
        source: the records.
    """

    def __init__(self, source: Source):
        self.source = source

    @property
    def white(self) -> Meaning:
        """What 255 means in the masks."""
        return self.source.white

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        """The record at ``index``, or the next one that can be read.

        Raises:
            DataError: none can be read.
        """
        try:
            return self.source[index]
        except DataError as error:
            reason = str(error)
        for distance in range(1, len(self)):
            try:
                return {**self.source[(index + distance) % len(self)], "stands_in_for": reason}
            except DataError:
                continue
        raise DataError(f"none of the {len(self)} records can be read: {reason}")
