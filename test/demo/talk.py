"""Programs that talk to each other, for the demo.

talk.py serve PORT...                 echo TCP and UDP on these ports, IPv4 and IPv6
talk.py ask tcp|udp ADDRESS PORT TEXT print the echo of TEXT
talk.py broadcast ADDRESS TEXT         send TEXT to everybody on a network
talk.py hold ADDRESS PORT FILE        exchange a line every 50 ms on one TCP connection, and keep in FILE
                                      how many there were and the longest wait for an answer, in ms

ask and hold exit with 3 when nothing comes back, as when a packet is dropped,
and with 1 at any other error, so that a service that is down is not taken for
one that policy denies.
"""

import os
import socket
import socketserver
import sys
import threading
import time

SILENT = 3
PATIENCE = 1.0  # seconds
LONG_PATIENCE = 20.0


class EchoTCP(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            self.request.sendall(data)


class EchoUDP(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data, self.client_address)


class TCP4(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class UDP4(socketserver.UDPServer):
    pass


def v6(base):
    """The IPv6 twin of a server, on a socket of its own."""

    class Twin(base):
        address_family = socket.AF_INET6

        def server_bind(self):
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            super().server_bind()

    return Twin


def serve(*ports):
    for port in map(int, ports):
        for server, address, handler in (
            (TCP4, "0.0.0.0", EchoTCP),
            (v6(TCP4), "::", EchoTCP),
            (UDP4, "0.0.0.0", EchoUDP),
            (v6(UDP4), "::", EchoUDP),
        ):
            threading.Thread(target=server((address, port), handler).serve_forever).start()
    print("ready", flush=True)


def dial(protocol, address, port, patience):
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[protocol]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.settimeout(patience)
    sock.connect((address, int(port)))
    return sock


def exchange(sock, text):
    sock.sendall(text)
    answer = sock.recv(4096)
    if answer != text:
        raise OSError(f"sent {text!r}, got {answer!r}")


def ask(protocol, address, port, text):
    with dial(protocol, address, port, PATIENCE) as sock:
        exchange(sock, text.encode())
    print(text)


def broadcast(address, text):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(text.encode(), (address, 9))


def hold(address, port, path):
    count, longest = 0, 0.0
    with dial("tcp", address, port, LONG_PATIENCE) as sock:
        while True:
            start = time.monotonic()
            exchange(sock, b"%d\n" % count)
            count, longest = count + 1, max(longest, time.monotonic() - start)
            with open(path + ".new", "w", encoding="ascii") as out:
                print(count, round(longest * 1000), file=out)
            os.replace(path + ".new", path)
            time.sleep(0.05)


def main():
    try:
        {"serve": serve, "ask": ask, "broadcast": broadcast, "hold": hold}[sys.argv[1]](*sys.argv[2:])
    except TimeoutError:
        print("no answer", file=sys.stderr)
        sys.exit(SILENT)
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


main()
