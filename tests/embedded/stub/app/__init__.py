"""A stand-in for the application, so that tests of the supervisor take seconds."""

import os
import time


def create_app():
    def answer(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            time.sleep(1.5)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]

    return answer
