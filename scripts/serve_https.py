"""Serves the file jwks.json of a folder over HTTPS, as a token issuer does: serve_https.py FOLDER HOST PORT CERT KEY."""

import functools
import http.server
import ssl
import sys


class Issuer(http.server.SimpleHTTPRequestHandler):
    def send_head(self):
        # The folder has the signing key, too.
        if self.path != "/jwks.json":
            self.send_error(404)
            return None
        return super().send_head()


def main(folder, host, port, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer((host, int(port)), functools.partial(Issuer, directory=folder))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
