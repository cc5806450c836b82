#!/usr/bin/env python3
"""What tensor.to(dtype) of the PyTorch at hand makes of chosen and of many made-up floating-point numbers, for tests of the dtype cast.

    make_casts.py            writes hashes.txt, float32.bin and float64.bin beside itself (done with 2.14)
    make_casts.py --check    compares them with what the PyTorch at hand does, and exits 1 if anything differs

hashes.txt has a line `source target set count sha256` for each pair of dtypes: of the results (little-endian, one after the other) for
  every  all values of an 8-bit or 16-bit source that are not NaN, ascending as integers
  random the 2^20 float32 or float64 numbers of made_up(), NaN left out
float32.bin and float64.bin hold a little-endian uint32 count, then that many chosen inputs, then for each target but the source
itself (float16, bfloat16, float32, float64, float8_e4m3fn, float8_e5m2) as many results.

Known difference: PyTorch 2.6 turned what is beyond 464 into NaN of float8_e4m3fn; 2.14 gives 448. --check says so and counts no error.
"""

import hashlib
import pathlib
import struct
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
TARGETS = ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"]
SMALL = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
INTEGERS = {1: (np.uint8, torch.uint8), 2: (np.uint16, torch.int16), 4: (np.uint32, torch.int32), 8: (np.uint64, torch.int64)}
COUNT = 1 << 20


def size_of(dtype):
    return torch.empty(0, dtype=getattr(torch, dtype)).element_size()


def tensor(bits, dtype):
    """Bit patterns as a tensor of `dtype`."""
    as_int = INTEGERS[size_of(dtype)][1]
    return torch.from_numpy(bits.view(str(as_int).replace("torch.", ""))).view(getattr(torch, dtype))


def cast(bits, source, target):
    """The results' bit patterns."""
    result = tensor(bits, source).to(getattr(torch, target))
    numpy_type, as_int = INTEGERS[size_of(target)]
    return result.view(as_int).numpy().view(numpy_type)


def numbers(bits, source):
    """Those that are not NaN."""
    return bits[~torch.isnan(tensor(bits, source).to(torch.float64)).numpy()]


def made_up(source):
    """splitmix64 of 0, 1, 2 ...; the exponent moved to where something happens, the mantissa of three in four near a tie."""
    z = np.arange(1, COUNT + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    kind, kept = np.arange(COUNT, dtype=np.uint64) % np.uint64(4), z % np.uint64(13)
    if source == "float32":
        mantissa_bits, exponent = 23, (z >> np.uint64(32)) % np.uint64(256)
    else:
        mantissa_bits, exponent = 52, np.uint64(863) + (z >> np.uint64(32)) % np.uint64(300)
    mantissa = z >> np.uint64(64 - mantissa_bits)
    rest = np.uint64(mantissa_bits) - kept
    near = (mantissa >> rest) << rest
    bits = (exponent << np.uint64(mantissa_bits)) | np.where(kind == 0, mantissa, near)
    bits = np.where(kind == 2, bits + np.uint64(1), np.where((kind == 3) & (bits > 0), bits - np.uint64(1), bits))
    sign = (z >> np.uint64(20)) & np.uint64(1)
    if source == "float32":
        return ((bits & np.uint64(0x7FFFFFFF)) | (sign << np.uint64(31))).astype(np.uint32)
    return (bits & np.uint64(0x7FFFFFFFFFFFFFFF)) | (sign << np.uint64(63))


def chosen(source):
    """Ties between neighbours of each target and what is next to them; where subnormals begin and end; limits; infinities; zeros."""
    one = np.float32 if source == "float32" else np.float64
    as_bits = np.uint32 if source == "float32" else np.uint64
    values = [0.0, 1.0, np.inf, np.finfo(one).max, np.finfo(one).tiny, np.finfo(one).smallest_subnormal, 65504, 65519.99, 65520, 65536, 448, 464, 480, 57344, 61440]
    values += [2.0**e for e in range(-150, 128)]
    for small in ("float8_e4m3fn", "float8_e5m2"):
        all_of_it = tensor(np.arange(128, dtype=np.uint8), small).to(torch.float64).numpy()
        all_of_it = np.unique(all_of_it[np.isfinite(all_of_it)])
        values += list((all_of_it[1:] + all_of_it[:-1]) / 2) + list(all_of_it)
    for wide, step in (("float16", 257), ("bfloat16", 263)):
        some = tensor(np.arange(0, 32768, step, dtype=np.uint16), wide).to(torch.float64).numpy()
        next_one = tensor(np.arange(1, 32769, step, dtype=np.uint16) & np.uint16(0x7FFF), wide).to(torch.float64).numpy()
        values += list(((some + next_one) / 2)[np.isfinite(some + next_one)])
    if source == "float64":  # ties of float32, which every other target sees after it
        some = np.arange(0, 0x7F800000, 4099 * 1823, dtype=np.uint32)
        values += list((some.view(np.float32).astype(np.float64) + (some + np.uint32(1)).view(np.float32).astype(np.float64)) / 2)
        values += [3.5e38, 3.4028235677973366e38, 1e300, 5e-324, 1e-46]
    with np.errstate(over="ignore"):
        bits = np.unique(np.array(values, dtype=np.float64).astype(one).view(as_bits))
    neighbours = np.concatenate([bits, bits[bits > 0] - as_bits(1), bits[bits < np.array(np.inf, one).view(as_bits)] + as_bits(1)])
    signed = np.concatenate([neighbours, neighbours | as_bits(1 << (8 * one().nbytes - 1))])
    return np.unique(numbers(signed, source))


def hashes():
    for source in [*SMALL, "float32", "float64"]:
        small = source in SMALL
        bits = np.arange(1 << (8 * size_of(source)), dtype=np.int64).astype(INTEGERS[size_of(source)][0]) if small else made_up(source)
        bits = numbers(bits, source)
        for target in TARGETS:
            if target != source:
                digest = hashlib.sha256(cast(bits, source, target).tobytes()).hexdigest()
                yield source, target, "every" if small else "random", bits, digest


def table(source):
    bits = chosen(source)
    results = [cast(bits, source, target) for target in TARGETS if target != source]
    return b"".join([struct.pack("<I", len(bits)), bits.tobytes(), *(one.tobytes() for one in results)])


def saturated(source, target, bits):
    """As a PyTorch before 2.14 would have to answer, were it to saturate too."""
    result = cast(bits, source, target).copy()
    beyond = np.abs(tensor(bits, source).to(torch.float64).numpy()) > 448
    result[beyond & ((result & 0x7F) == 0x7F)] ^= 1
    return result


def check():
    wrong = 0
    expected = [line.split() for line in (HERE / "hashes.txt").read_text().splitlines() if not line.startswith("#")]
    for (source, target, what, bits, digest), line in zip(hashes(), expected, strict=True):
        if [source, target, what, str(len(bits)), digest] == line:
            continue
        if target == "float8_e4m3fn" and hashlib.sha256(saturated(source, target, bits).tobytes()).hexdigest() == line[4]:
            print(f"{source} to {target}: as known, this PyTorch does not saturate")
            continue
        print(f"{source} to {target} differs ({what}, {len(bits)} values)")
        wrong += 1
    for source in ("float32", "float64"):
        stored = (HERE / f"{source}.bin").read_bytes()
        count = struct.unpack("<I", stored[:4])[0]
        at = 4 + count * size_of(source)
        bits = np.frombuffer(stored[4:at], INTEGERS[size_of(source)][0]).copy()
        for target in TARGETS:
            if target == source:
                continue
            results = np.frombuffer(stored[at : at + count * size_of(target)], INTEGERS[size_of(target)][0])
            at += count * size_of(target)
            ours = saturated(source, target, bits) if target == "float8_e4m3fn" else cast(bits, source, target)
            if not np.array_equal(ours, results):
                print(f"{source} to {target} differs in {int((ours != results).sum())} of {count} chosen values")
                wrong += 1
    return wrong


def main():
    print("PyTorch", torch.__version__)
    if sys.argv[1:] == ["--check"]:
        sys.exit(1 if check() else 0)
    lines = [f"# By PyTorch {torch.__version__}; see make_casts.py.\n"]
    lines += [f"{source} {target} {what} {len(bits)} {digest}\n" for source, target, what, bits, digest in hashes()]
    (HERE / "hashes.txt").write_text("".join(lines))
    for source in ("float32", "float64"):
        (HERE / f"{source}.bin").write_bytes(table(source))


if __name__ == "__main__":
    main()
