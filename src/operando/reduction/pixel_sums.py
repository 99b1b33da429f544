"""The loops of integration: pixels added to their bins, from memory or as they come out of a compressed chunk.

Neighbouring pixels mostly go into the same bin, and an addition that waits for the one before it takes several times as long: each has its own
set of sums, in turns of four. Pixels that hold no count are noted in `lost`, as many as fit; all loops give how many there were, and run without
Python's lock. Out of a chunk, block by block of 8 kB, pixels go from the processor's cache straight to their bins: the frame is never written to
memory. Where all counts of a block are below 256, which their empty bit planes say, they need not be looked at one by one either.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from operando.images.chunks import DAMAGED, HEADER, kernels


@functools.cache
def loops() -> dict[str, Any]:
    """Compile the loops when a frame is first integrated.

    Returns
    -------
    dict
        `centre(frame, bins, top, sums, lost)`, `boxes(frame, first, shares, pixels, bins, rest, top, sums, lost)` and
        `chunk(data, n, size, bins, unused, top, sums, lost, values)`. A bin of `sums.shape[1] - 8` is none; `unused` are bits, eight pixels to a
        byte, set where that is so.
    """
    from numba import njit

    parts = kernels()
    number, next_block, plane, empty = parts["number"], parts["next_block"], parts["plane"], parts["empty"]

    @njit(nogil=True)
    def small_counts(shuffled, elements, size, unused, high):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Say whether all pixels in use are below 256: the planes above the first eight are empty but for gaps of the detector and masked pixels."""
        each = elements // 8
        for k in range(each):
            high[k] = 0
        for j in range(8, 8 * size):
            row = shuffled[j * each : (j + 1) * each]
            for k in range(each):
                high[k] |= row[k]
        found = 0
        for k in range(each):
            found |= high[k] & ~unused[k]
        return (found & 255) == 0

    byte = np.uint64(255)

    @njit(nogil=True)
    def centre(frame, bins, top, sums, lost):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Add each pixel to the bin of its centre."""
        bad = 0
        gone = sums.shape[1] - 8
        for start in range(0, frame.size, 2048):
            some = frame[start : start + 2048]
            where = bins[start : start + 2048]
            found = False
            for k in range(some.size):  # many at once; a block without such a pixel, the most, needs no look at each
                found |= (where[k] != gone) & ((some[k] < top) ^ True)
            whole = some.size // 4 * 4
            if not found:
                for k in range(0, whole, 4):
                    sums[0, where[k]] += some[k]
                    sums[1, where[k + 1]] += some[k + 1]
                    sums[2, where[k + 2]] += some[k + 2]
                    sums[3, where[k + 3]] += some[k + 3]
                for k in range(whole, some.size):
                    sums[0, where[k]] += some[k]
            else:
                for k in range(some.size):
                    b = where[k]
                    if some[k] < top:
                        sums[k & 3, b] += some[k]
                    elif b != gone:
                        if bad < lost.size:
                            lost[bad] = start + k
                        bad += 1
        return bad

    @njit(nogil=True)
    def boxes(frame, first, shares, pixels, bins, rest, top, sums, lost):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Share each pixel among the bins that its bounding box reaches."""
        bad = 0
        gone = sums.shape[1] - 8
        for p in range(frame.size):
            v = frame[p]
            b = np.int64(first[p])
            if b == gone:
                continue
            if v < top:
                x = np.float64(v)
                c = np.float64(shares[p, 0])
                d = np.float64(shares[p, 1])
                s = p & 3
                sums[s, b, 0] += c * x
                sums[s, b, 1] += c * c * x
                sums[s, b + 1, 0] += d * x
                sums[s, b + 1, 1] += d * d * x
            else:
                if bad < lost.size:
                    lost[bad] = p
                bad += 1
        for k in range(pixels.size):
            v = frame[pixels[k]]
            if v < top:
                c = np.float64(rest[k])
                sums[0, bins[k], 0] += c * v
                sums[0, bins[k], 1] += c * c * v
        return bad

    @njit(nogil=True)
    def chunk(data, n, size, bins, unused, top, sums, lost, values):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Do as `centre` does with n unsigned pixels of some bytes' size, out of a bitshuffle-LZ4 chunk; what lost pixels hold goes into `values`."""
        bad = 0
        gone = sums.shape[1] - 8
        one, two, three, four = sums[0], sums[1], sums[2], sums[3]
        block = number(data, 8)
        shuffled = np.empty(block, np.uint8)
        words = np.empty(block // size // 8, np.uint64)
        small = words.view(np.uint8)
        large = np.empty(block // size, np.uint64)
        high = np.empty(block // size // 8, np.uint8)
        position, done = HEADER, 0
        while n - done >= 8:
            elements = min(block // size, (n - done) // 8 * 8)
            position = next_block(data, position, elements * size, shuffled)
            if position < 0:
                return DAMAGED
            plane(shuffled, elements, 0, words)
            where = bins[done : done + elements]
            if top > 255 and small_counts(shuffled, elements, size, unused[done // 8 : (done + elements) // 8], high):
                for k in range(elements // 8):
                    x = words[k]
                    if x != 0:
                        i = 8 * k
                        one[where[i]] += np.int64(x & byte)
                        two[where[i + 1]] += np.int64((x >> np.uint64(8)) & byte)
                        three[where[i + 2]] += np.int64((x >> np.uint64(16)) & byte)
                        four[where[i + 3]] += np.int64((x >> np.uint64(24)) & byte)
                        one[where[i + 4]] += np.int64((x >> np.uint64(32)) & byte)
                        two[where[i + 5]] += np.int64((x >> np.uint64(40)) & byte)
                        three[where[i + 6]] += np.int64((x >> np.uint64(48)) & byte)
                        four[where[i + 7]] += np.int64(x >> np.uint64(56))
            else:
                for k in range(elements):
                    large[k] = small[k]
                for j in range(1, size):
                    if not empty(shuffled, j * elements, (j + 1) * elements):
                        plane(shuffled, elements, j, words)
                        for k in range(elements):
                            large[k] |= np.uint64(small[k]) << np.uint64(8 * j)
                for k in range(elements):
                    v = large[k]
                    b = where[k]
                    if v < top:
                        sums[k & 3, b] += np.int64(v)
                    elif b != gone:
                        if bad < lost.size:
                            lost[bad] = done + k
                            values[bad] = v
                        bad += 1
            done += elements
        if position + (n - done) * size > data.size:
            return DAMAGED
        for p in range(done, n):
            v = np.uint64(0)
            for j in range(size):
                v |= np.uint64(data[position + (p - done) * size + j]) << np.uint64(8 * j)
            if v < top:
                one[bins[p]] += np.int64(v)
            elif bins[p] != gone:
                if bad < lost.size:
                    lost[bad] = p
                    values[bad] = v
                bad += 1
        return bad

    return {"centre": centre, "boxes": boxes, "chunk": chunk}
