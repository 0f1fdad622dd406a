"""Words of 64 bits as the electronics write them into memory: little-endian, one word for each signal.

========  =======  ==============================================
bits      field    meaning
========  =======  ==============================================
62 to 63  HEAD     kind of the word
58 to 61  FPGA     board
49 to 57  CHANNEL  from 0
17 to 48  ORBIT    counter of orbits; it starts again after 2^32
5 to 16   BX       bunch crossing within the orbit, 0 to 3563
0 to 4    TDC      fine time, 1 to 30
========  =======  ==============================================

Text files have other numbers for the same word: channels count from `WireMap.first_channel`, TDC from 0.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dqm_collectors.chamber.geometry import COUNTS_PER_BX, WireMap
from dqm_collectors.chamber.hits import RawHits

__all__ = ["WORD_BYTES", "Numbering", "WordArray", "decode_words", "recognise_numbering", "words_of"]

WordArray = NDArray[np.uint64]

WORD_BYTES = 8

ENOUGH_HITS = 1000
"""Hits from which the numbering of words is recognised; fewer have the numbers of the electronics."""


class Numbering(StrEnum):
    """Numbers in the fields of binary words."""

    ELECTRONICS = "electronics"
    """Channels from 0, TDC from 1."""
    TEXT = "text"
    """As in text files: words that were made from text."""


def words_of(data: bytes) -> WordArray:
    """Return the words in a block of bytes.

    Parameters
    ----------
    data : bytes
        A whole number of words.

    Returns
    -------
    ndarray of uint64, shape (n_words,)
    """
    return np.frombuffer(data, dtype="<u8")


def decode_words(words: WordArray, wires: WireMap, numbering: Numbering) -> RawHits:
    """Take binary words apart; the result has the numbers of text files.

    Parameters
    ----------
    words : ndarray of uint64, shape (n_words,)
        Words.
    wires : WireMap
        Convention of the text files.
    numbering : Numbering
        Numbers in the words.

    Returns
    -------
    RawHits
    """

    def field(first_bit: int, n_bits: int) -> NDArray[np.int64]:
        bits = (words >> np.uint64(first_bit)) & np.uint64(2**n_bits - 1)
        return bits.view(np.int64)

    channel = field(49, 9)
    tdc = field(0, 5)
    if numbering is Numbering.ELECTRONICS:
        channel += wires.first_channel
        tdc -= 1
    return RawHits(field(62, 2), field(58, 4), channel, field(17, 32), field(5, 12), tdc)


def recognise_numbering(words: WordArray, wires: WireMap) -> Numbering:
    """Recognise the numbering by the values of TDC in hits: 1 to 30, or 0 to 29 as in text.

    Parameters
    ----------
    words : ndarray of uint64, shape (n_words,)
        First words of a file.
    wires : WireMap
        Convention, which tells hits from other words.

    Returns
    -------
    Numbering
        That of the electronics if there are fewer than `ENOUGH_HITS` hits.
    """
    head = np.uint64(wires.hit_head << 62)
    if np.count_nonzero(words >> np.uint64(62) == wires.hit_head) < ENOUGH_HITS:
        return Numbering.ELECTRONICS
    head_and_tdc = words & np.uint64(3 << 62 | 31)
    n_first = np.count_nonzero(head_and_tdc == head)
    n_last = np.count_nonzero(head_and_tdc == head + np.uint64(COUNTS_PER_BX))
    return Numbering.TEXT if n_first > n_last else Numbering.ELECTRONICS
