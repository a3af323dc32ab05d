"""tls_client.py HOST PORT CA REQUEST GO HOW: sends REQUEST over TLS, waits until the file GO is there, and leaves: by a close_notify behind which the
socket stays open ("close_notify"), or by a FIN without one ("fin"). Prints what it is told until then."""
import os
import socket
import ssl
import sys
import time

host, port, ca, request, go, how = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
client = context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname="localhost")
client.sendall(request.encode().decode("unicode_escape").encode())
client.settimeout(0.01)
deadline = time.time() + 30
while not os.path.exists(go) and time.time() < deadline:
    try:
        print(client.recv(65536).decode(), end="", flush=True)
    except TimeoutError:
        pass
client.settimeout(10)
if how == "close_notify":
    try:
        client.unwrap()
    except (ssl.SSLError, OSError):
        pass
    time.sleep(30)
client.close()
