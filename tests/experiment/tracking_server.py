"""What MLflow's client needs of a server, over HTTP: MLflow's own is not in its small package.

python tracking_server.py PORT
"""

import http.server
import json
import sys

ANSWERS = {
    "experiments/get-by-name": {"experiment": {"experiment_id": "1", "name": "x"}},
    "runs/create": {"run": {"info": {"run_id": "r", "status": "RUNNING"}, "data": {}}},
}


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = json.dumps(ANSWERS.get(self.path.split("mlflow/")[-1].split("?")[0], {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
