# Copyright (c) mvp_mm authors. All rights reserved.
"""A small chat-completions server, run as a process of its own: ``python caption_server.py RULES``.

It tells images by their pixels' digest, answers with a caption made of it, and counts. RULES is
JSON: ``delay`` (seconds an answer takes) and ``faults``, per image (in the order of arrival) the
statuses to answer with before the caption.
"""
from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RULES = json.loads(sys.argv[1])
LOCK = threading.Lock()
REQUESTS: dict[str, list[float]] = {}
STATE = dict(running=0, most=0, bodies=[])


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def reply(self, status, content, **headers):
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        with LOCK:
            self.reply(200, dict(requests=REQUESTS, most=STATE['most'], bodies=STATE['bodies']))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        kind, _, data = body['messages'][0]['content'][0]['image_url']['url'].partition(',')
        image = hashlib.sha256(base64.b64decode(data)).hexdigest()[:12]
        with LOCK:
            order = list(REQUESTS).index(image) if image in REQUESTS else len(REQUESTS)
            REQUESTS.setdefault(image, []).append(time.time())
            seen = len(REQUESTS[image])
            STATE['running'] += 1
            STATE['most'] = max(STATE['most'], STATE['running'])
            body['messages'] = kind
            STATE['bodies'] = [dict(body, auth=self.headers.get('Authorization'))]
        time.sleep(RULES.get('delay', 0))
        with LOCK:
            STATE['running'] -= 1
        faults = RULES.get('faults', {}).get(str(order), [])
        if seen <= len(faults):
            return self.fail(faults[seen - 1])
        self.reply(200, dict(choices=[dict(
            message=dict(role='assistant', content=f' A picture with the digest {image}. '),
            finish_reason=RULES.get('finish', 'stop'))]))

    def fail(self, fault):
        if fault == 'hang up':
            self.close_connection = True
            return self.connection.close()
        if fault == 'slow':
            time.sleep(2)
            return self.reply(200, {})
        headers = dict(Retry_After='0.3') if fault == 429 else {}
        self.reply(fault, dict(error=dict(message=f'fault {fault}')), **headers)


if __name__ == '__main__':
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
