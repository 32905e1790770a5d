#!/usr/bin/env python3
"""Asks a device that answers as docs/protocol.md says, with Python's standard library alone: a board on a serial line, or
`cliptext-run serve` on a socket.

    cliptext_client.py --unix /run/cliptext.sock hello
    cliptext_client.py --tcp 127.0.0.1:7077 tokenize "a running dog"
    cliptext_client.py --uart /dev/ttyUSB0 --baud 115200 encode "a running dog" --numbers int8 -o cond.f32

As a module: `with Client(unix("/run/cliptext.sock")) as client: text = client.encode(["a running dog"])[0]`.
"""

import argparse
import array
import os
import socket
import struct
import sys

VERSION = 1
ANSWER = 0x80
NUMBERS = {"f32": 0, "f16": 1, "int8": 2}
PARTS = {"both": 0, "hidden": 1, "pooled": 2}
WEIGHTS = {"none": 0, "a1111": 1, "comfy": 2}
PROBLEMS = [
    "a frame was damaged on the line", "the request is longer than the server takes", "the server speaks another version",
    "the server does not know this kind of request", "the request is not as the protocol has it", "a text is not UTF-8",
    "no text, or too many", "no chunk, or too many", "a text takes more chunks than there can be",
    "chunks and weights can't be had without padding", "the server has no memory for weights",
    "there are not so many rows", "the plan has no pooled output", "a value that these numbers don't have: ask for f32",
    "the server can't read its plan", "the server has too many clients", "the weights in a text can't be read",
]  # fmt: skip


def _crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


TABLE = list(_crc_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def stuff(data):
    """COBS: groups of up to 254 bytes that are not zero, each behind its length plus one; a zero ends the frame."""
    out = bytearray()
    groups = data.split(b"\0")
    for index, group in enumerate(groups):
        while len(group) >= 254:
            out += b"\xff" + group[:254]
            group = group[254:]
            if not group and index == len(groups) - 1:
                return bytes(out + b"\0")
        out += bytes([len(group) + 1]) + group
    return bytes(out + b"\0")


def unstuff(frame):
    """The bytes of a frame without its zero; None where its last group is cut."""
    out, at, zero = bytearray(), 0, False
    while at < len(frame):
        if zero:
            out.append(0)
        code = frame[at]
        if at + code > len(frame):
            return None
        out += frame[at + 1 : at + code]
        at, zero = at + code, code < 0xFF
    return bytes(out)


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


class Fields:
    """Reads postcard's values one behind the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        if self.at > len(self.data):
            raise Damaged("an answer ends early")
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def number(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def bytes(self):
        return self.take(self.number())

    def text(self):
        return self.bytes().decode()


class Problem(Exception):
    """The server's answer is that it can't answer; `code` is its number."""

    def __init__(self, code):
        self.code = code
        super().__init__(PROBLEMS[code] if code < len(PROBLEMS) else f"problem {code}")


class Damaged(Exception):
    """The answer was damaged on the line: ask again."""


class Text:
    """An embedding: `hidden` are `rows` × `columns` f32, row by row, and `pooled` its pooled row or None."""

    def __init__(self, rows, columns, truncated):
        self.rows, self.columns, self.truncated = rows, columns, truncated
        self.hidden, self.pooled = array.array("f"), None


def values(numbers, data):
    """A row's values as floats."""
    if numbers == "int8":
        (scale,) = struct.unpack_from("<f", data)
        return [code * scale for code in struct.unpack_from(f"<{len(data) - 4}b", data, 4)]
    size, code = (4, "f") if numbers == "f32" else (2, "e")
    return struct.unpack(f"<{len(data) // size}{code}", data)


class Client:
    """Asks on `line`, which has `read(count)`, `write(data)` and `close()`."""

    def __init__(self, line):
        self.line, self.id, self.rest = line, 0, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.line.close()

    def _ask(self, message):
        self.id = self.id % 0xFFFFFFFF + 1
        data = bytes([VERSION]) + varint(self.id) + message
        # Whatever the server has heard before ends at the first zero.
        self.line.write(b"\0" + stuff(data + struct.pack("<I", crc32c(data))))

    def _answer(self):
        """The next answer to the request: its kind and its fields."""
        while True:
            while b"\0" not in self.rest:
                more = self.line.read(4096)
                if not more:
                    raise ConnectionError("the server says nothing more")
                self.rest += more
            frame, _, self.rest = self.rest.partition(b"\0")
            if len(frame) < 8:
                continue
            data = unstuff(frame)
            if data is None or len(data) < 7 or crc32c(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
                raise Damaged("a frame is damaged")
            fields = Fields(data[:-4])
            version, name = fields.byte(), fields.number()
            if version != VERSION | ANSWER or name not in (0, self.id):
                continue
            kind = fields.number()
            if kind == 7:
                raise Problem(fields.number())
            return kind, fields

    def hello(self):
        """The server, its plan and its limits."""
        self._ask(b"\0")
        _, fields = self._answer()
        hello = {"server": fields.text(), "plan": fields.text(), "hash": fields.take(32).hex()}
        for name in ("context", "width", "pooled", "arena"):
            hello[name] = fields.number()
        for name in ("at_once", "texts", "chunks", "weighted_chunks"):
            hello[name] = fields.byte()
        hello["frame"] = fields.number()
        hello["kernels"] = fields.text()
        return hello

    def tokenize(self, text):
        """The ids of a text, start and end token included."""
        data = text.encode()
        self._ask(b"\1" + varint(len(data)) + data)
        _, fields = self._answer()
        ids = fields.bytes()
        return list(struct.unpack(f"<{len(ids) // 4}I", ids))

    def encode(self, texts, numbers="f32", parts="both", unpadded=False, weights="none", chunks=1, comma=0):
        """A `Text` for each of up to 16 texts. `chunks` is a number or "auto"."""
        message = b"\2" + varint(len(texts))
        for text in texts:
            data = text.encode()
            message += varint(len(data)) + data
        message += bytes([NUMBERS[numbers], PARTS[parts], unpadded, 0, WEIGHTS[weights]])
        message += {1: b"\0", "auto": b"\1"}.get(chunks) or bytes([2, chunks])
        self._ask(message + bytes([comma]))
        answers, sent = [], 0
        while True:
            kind, fields = self._answer()
            if kind == 2:
                fields.byte()
                answers.append(Text(fields.number(), fields.number(), bool(fields.byte())))
            elif kind == 3:
                text, row = answers[fields.byte()], fields.number()
                if row * text.columns != len(text.hidden):
                    raise Damaged("a row was lost")
                text.hidden.extend(values(numbers, fields.bytes()))
                sent += 1
            elif kind == 4:
                answers[fields.byte()].pooled = array.array("f", values(numbers, fields.bytes()))
                sent += 1
            elif kind == 5:
                if fields.number() != sent or len(answers) != len(texts):
                    raise Damaged("a row was lost")
                return answers

    def statistics(self):
        """What was done so far."""
        self._ask(b"\3")
        _, fields = self._answer()
        names = "answered refused texts rows damaged too_long skipped busy_millis last_micros longest_micros"
        return {name: fields.number() for name in names.split()}


class Socket:
    """A line through a socket."""

    def __init__(self, connected):
        self.socket = connected

    def read(self, count):
        return self.socket.recv(count)

    def write(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()


def unix(path, timeout=60):
    """A line to the Unix socket at `path`."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout)
    connected.connect(path)
    return Socket(connected)


def tcp(address, timeout=60):
    """A line to `host:port`."""
    host, _, port = address.rpartition(":")
    return Socket(socket.create_connection((host.strip("[]"), int(port)), timeout))


class Uart:
    """A serial line: bytes as they are, 8 bits, no parity, one stop bit, no flow control."""

    def __init__(self, path, baud=115200, timeout=25):
        import termios

        self.port = os.open(path, os.O_RDWR | os.O_NOCTTY)
        speed = getattr(termios, f"B{baud}")
        # VMIN 0 and VTIME in tenths of a second: a read that gets nothing ends then.
        chars = [b"\0"] * 32
        chars[termios.VMIN], chars[termios.VTIME] = 0, min(timeout * 10, 255)
        control = termios.CS8 | termios.CREAD | termios.CLOCAL
        termios.tcsetattr(self.port, termios.TCSAFLUSH, [0, 0, control, 0, speed, speed, chars])

    def read(self, count):
        return os.read(self.port, count)

    def write(self, data):
        while data:
            data = data[os.write(self.port, data) :]

    def close(self):
        os.close(self.port)


def main():
    parser = argparse.ArgumentParser(description="Asks a device that answers.")
    line = parser.add_mutually_exclusive_group(required=True)
    line.add_argument("--unix", metavar="PATH")
    line.add_argument("--tcp", metavar="HOST:PORT")
    line.add_argument("--uart", metavar="DEVICE")
    parser.add_argument("--baud", type=int, default=115200)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("hello")
    commands.add_parser("statistics")
    commands.add_parser("tokenize").add_argument("text")
    encode = commands.add_parser("encode")
    encode.add_argument("text", nargs="+")
    encode.add_argument("-o", "--output", metavar="FILE", required=True, help="raw f32: [texts, rows, columns]")
    encode.add_argument("--numbers", choices=NUMBERS, default="f32")
    encode.add_argument("--no-pad", action="store_true")
    args = parser.parse_args()
    opened = unix(args.unix) if args.unix else tcp(args.tcp) if args.tcp else Uart(args.uart, args.baud)
    with Client(opened) as client:
        if args.command == "encode":
            texts = client.encode(args.text, args.numbers, "hidden", args.no_pad)
            with open(args.output, "wb") as file:
                for text in texts:
                    text.hidden.tofile(file)
        elif args.command == "tokenize":
            print(*client.tokenize(args.text))
        else:
            found = client.hello() if args.command == "hello" else client.statistics()
            for name, value in found.items():
                print(f"{name:<16}{value}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, Problem, Damaged) as error:
        sys.exit(f"cliptext_client.py: {error}")
