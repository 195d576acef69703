"""Calls an API until it is interrupted, and prints what its callers see.

    probe.py URL TOKEN     every 50 ms over a new connection, with at most 16 calls at a time

Prints one line of JSON: calls, answers by class, connection errors, and the longest time without an answer below 500.
A call that is not answered within five seconds counts as a connection error.
"""

import json
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

INTERVAL_S = 0.05
TIMEOUT_S = 5
CONCURRENT = 16


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {"calls": 0, "served": 0, "5xx": 0, "connection errors": 0}
        self.served_at = time.monotonic()
        self.longest = 0.0
        self.causes = {}

    def add(self, kind, cause=None):
        with self.lock:
            now = time.monotonic()
            self.counts["calls"] += 1
            self.counts[kind] += 1
            if cause:
                self.causes[cause] = self.causes.get(cause, 0) + 1
            self.longest = max(self.longest, now - self.served_at)
            if kind == "served":
                self.served_at = now


def call(url, token, tally):
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}", "connection": "close"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer.read()
        tally.add("served")
    except urllib.error.HTTPError as error:
        tally.add("5xx" if error.code >= 500 else "served", f"status {error.code}")
    except OSError as error:
        tally.add("connection errors", str(getattr(error, "reason", error)))


def main(url, token):
    tally = Tally()
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    places = threading.Semaphore(CONCURRENT)

    def one():
        try:
            call(url, token, tally)
        finally:
            places.release()

    while not stop.wait(INTERVAL_S):
        if places.acquire(timeout=TIMEOUT_S):
            threading.Thread(target=one, daemon=True).start()
    for _ in range(CONCURRENT):
        places.acquire(timeout=TIMEOUT_S + 1)
    print(json.dumps({**tally.counts, "seconds without service": round(tally.longest, 1), "causes": tally.causes}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
