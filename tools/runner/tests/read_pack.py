"""Reads a prompt pack as docs/pack-format.md says, with Python's own modules alone, and compares what is in it with raw f32.

read_pack.py PACK PLAN-HASH NAME=HIDDEN.f32=POOLED.f32…
"""

import struct
import sys


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def align(n):
    return (n + 63) // 64 * 64


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def text(data, at):
    length, at = varint(data, at)
    return data[at : at + length].decode(), at + length


def read(pack):
    magic, version, header, size = struct.unpack_from("<8sIIQ", pack)
    assert (magic, version, header, size) == (b"clippack", 1, 128, len(pack))
    places = [struct.unpack_from("<QQ", pack, 24 + 16 * section) for section in range(5)]
    end = 128
    for offset, length in places:
        assert offset == align(end) and not any(pack[end:offset])
        end = offset + length
    assert end == size and not any(pack[104:124])
    checksums, manifest, index, texts, values = (pack[offset : offset + length] for offset, length in places)
    body = pack[places[1][0] :]
    sums = [crc32c(body[at : at + 65536]) for at in range(0, len(body), 65536)]
    assert list(struct.unpack(f"<{len(sums)}I", checksums)) == sums
    both = struct.pack("<II", crc32c(pack[:124]), crc32c(checksums))
    assert struct.unpack_from("<I", pack, 124)[0] == crc32c(both)

    producer, at = text(manifest, 0)
    source, at = text(manifest, at)
    plan, at = manifest[at : at + 32].hex(), at + 32
    width, at = varint(manifest, at)
    pooled, at = varint(manifest, at)
    dtype, at = varint(manifest, at)
    assert at == len(manifest) and producer.startswith("cliptext ") and source
    letter, item = [("f", 4), ("e", 2)][dtype]

    entries, names = {}, []
    for at in range(0, len(index), 64):
        low, high, tokens, place, *lengths = struct.unpack_from("<7I", index, at)
        assert not any(index[at + 36 : at + 64])
        parts = []
        for length in lengths:
            parts.append(texts[place : place + length].decode())
            place += length
        at = low | high << 32
        ids = struct.unpack_from(f"<{tokens}I", values, at)
        at += align(4 * tokens)
        hidden = struct.unpack_from(f"<{tokens * width}{letter}", values, at)
        at += align(tokens * width * item)
        row = struct.unpack_from(f"<{pooled}{letter}", values, at)
        names.append(parts[0].encode())
        entries[parts[0]] = (parts[1], parts[2], ids, hidden, row)
    assert names == sorted(names)
    return plan, letter, entries


def main(path, plan_hash, *wanted):
    with open(path, "rb") as file:
        plan, letter, entries = read(file.read())
    assert plan == plan_hash and len(entries) == len(wanted)
    for name, hidden, pooled in (each.split("=") for each in wanted):
        _, options, ids, *found = entries[name]
        assert options == "" and ids[0] == 598 and 599 in ids
        for values, raw in zip(found, [hidden, pooled]):
            with open(raw, "rb") as file:
                want = file.read()
            want = struct.unpack(f"<{len(want) // 4}f", want)
            # Packing as `e` rounds to nearest, ties to even.
            assert struct.pack(f"<{len(want)}{letter}", *want) == struct.pack(f"<{len(values)}{letter}", *values)
    print("read")


main(*sys.argv[1:])
