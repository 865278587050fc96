"""What every data source yields, and the error that bad data raises.

A source is random access: ``len(source)`` records, ``source[i]`` decodes one. The same index always gives the
same record, so that the order of training is decided by the loader alone.
"""

from typing import Literal, NotRequired, Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import UInt8

Meaning = Literal["salient", "blur", "focus"]
"""What a mask marks: the salient object (SOD), the defocus-blurred region, or the region in focus (DBD)."""


class Record(TypedDict):
    """One photo and its mask, at the photo's own size.

    Attributes:
        image: RGB, 0–255.
        mask: 0–255; 255 marks ``source.white``. Not necessarily binary: the loader thresholds at 128 after resizing.
        id: unique inside its source and stable between runs; the file's stem where there is a file.
        stands_in_for: why the record that was asked for cannot be read; only where this is another one.
        profile: ICC profile of a photo to predict, if it has one that holds for ``image``.
    """

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    id: str
    stands_in_for: NotRequired[str]
    profile: NotRequired[bytes | None]


@runtime_checkable
class Source(Protocol):
    """Random access to records; ``white`` says what 255 means in their masks."""

    white: Meaning

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


class DataError(ValueError):
    """Bad input data. The message is one line for a person: what is wrong, where, and what to do next."""
