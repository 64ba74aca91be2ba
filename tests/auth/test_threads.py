import subprocess
import sys
import textwrap

from app.auth.threads import off_the_loop

UNDER_GEVENT = textwrap.dedent(
    """
    from gevent import monkey
    monkey.patch_all()
    import time, bcrypt, gevent
    from app.auth.threads import off_the_loop

    ticks = []
    def tick():
        while True:
            ticks.append(time.perf_counter())
            gevent.sleep(0.002)

    gevent.spawn(tick)
    gevent.sleep(0.01)
    ticks.clear()
    begun = time.perf_counter()
    if {aside}:
        off_the_loop(bcrypt.hashpw, b"password", bcrypt.gensalt(11))
    else:
        bcrypt.hashpw(b"password", bcrypt.gensalt(11))
    print(len(ticks))
    """
)


def ticks_of_the_loop(*, aside):
    script = UNDER_GEVENT.format(aside=aside)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


class TestOffTheLoop:
    def test_answers_what_the_work_returns(self):
        assert off_the_loop(pow, 2, 10) == 1024

    def test_lets_the_loop_of_gevent_go_on(self):
        assert ticks_of_the_loop(aside=False) == 0
        assert ticks_of_the_loop(aside=True) > 5
